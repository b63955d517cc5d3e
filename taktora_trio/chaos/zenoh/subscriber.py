"""The independent subscriber of Zenoh: it shares no code with the gateway but the library.

It acknowledges each number, since nobody else does, and gives it back. Both happen in the library's threads.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import trio

from taktora_trio.chaos.app import Numbered
from taktora_trio.chaos.subscriber import Subscriber
from taktora_trio.chaos.zenoh.app import ECHO_KEY, NUMBERS_KEY

__all__ = ["ZenohSubscriber", "open_subscriber"]

_PAUSE = 0.02  # seconds between two tries to connect
_TO_CLOSE = 5.0  # seconds for the library; what takes longer goes on in its thread
_PATIENCE = 5.0  # seconds for the answer to what it gives back


class ZenohSubscriber(Subscriber):
    """Takes the numbers of a gateway, as any receiver of acknowledged messages does."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[bytes, int] = {}
        """The number of the newest message from each sender."""

    async def serve(self, port: int) -> None:
        """Take numbers at the router on this port, again and again. Runs until cancelled."""
        import zenoh  # only a process that has chaos for it

        config = zenoh.Config()
        for path, value in {
            "mode": "client",
            "connect/endpoints": [f"tcp/127.0.0.1:{port}"],
            "scouting/multicast/enabled": False,
            "transport/shared_memory/enabled": False,
        }.items():
            config.insert_json5(path, json.dumps(value))
        while True:
            with contextlib.suppress(zenoh.ZError):
                session = await trio.to_thread.run_sync(zenoh.open, config)
                try:
                    await self._listen(session)
                finally:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + _TO_CLOSE):
                        await trio.to_thread.run_sync(session.close, abandon_on_cancel=True)
            await trio.sleep(_PAUSE)

    async def _listen(self, session: Any) -> None:
        """Listen until the router is gone."""
        import zenoh

        token, lost = trio.lowlevel.current_trio_token(), trio.Event()

        def changed(event: zenoh.TransportEvent) -> None:
            if event.kind == zenoh.SampleKind.DELETE:
                tell(lost.set)

        def tell(call: Any, *args: Any) -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(call, *args)

        def asked(query: zenoh.Query) -> None:
            with query:
                if (payload := self._payload_of(query)) is None:
                    return  # it comes again, behind what is missing
                tell(self._take, payload)
                query.reply(NUMBERS_KEY, b"")
            session.get(
                ECHO_KEY,
                zenoh.handlers.Callback(lambda reply: None, indirect=False),
                payload=payload,
                timeout=_PATIENCE,
                congestion_control=zenoh.CongestionControl.DROP,
            )

        session.info.declare_transport_events_listener(changed, history=False)
        session.declare_queryable(NUMBERS_KEY, asked, complete=True)
        self.connections.value += 1
        await lost.wait()

    def _payload_of(self, query: Any) -> bytes | None:
        """Return the message that a query carries; `None` if one before it is missing."""
        from zenoh.ext import z_deserialize

        pairs = z_deserialize(dict[str, bytes], query.attachment)
        number, before, _ = map(int, pairs[".number"].split())
        sender = pairs[".sender"]
        last = self._last.get(sender, 0)
        if before > last:
            return None
        self._last[sender] = max(last, number)
        payload: bytes = query.payload.to_bytes()
        return payload

    def _take(self, payload: bytes) -> None:
        message = msgspec.json.decode(payload, type=Numbered)
        self.tally.add(message.series, message.number)
        self.changes.value += 1


@contextlib.asynccontextmanager
async def open_subscriber(port: int) -> AsyncIterator[ZenohSubscriber]:
    """Listen while the block lasts; subscribed when it begins."""
    subscriber = ZenohSubscriber()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscriber.serve, port)
        await subscriber.wait_until_subscribed(1, 10)
        yield subscriber
        nursery.cancel_scope.cancel()
