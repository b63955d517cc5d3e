"""Somebody else on the network: a plain session of the library, with what comes as trio channels."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import trio
import zenoh

from tests.patience import PATIENCE

__all__ = ["Outsider", "open_outsider"]


class Outsider:
    """Puts, asks, subscribes and answers, as a program that knows nothing of us."""

    def __init__(self, session: zenoh.Session) -> None:
        self.session = session
        self._token = trio.lowlevel.current_trio_token()

    def _hand_over(self) -> tuple[Any, trio.MemoryReceiveChannel[Any]]:
        sending, receiving = trio.open_memory_channel[Any](math.inf)

        def put(item: object) -> None:
            with contextlib.suppress(trio.RunFinishedError, trio.BrokenResourceError):
                self._token.run_sync_soon(sending.send_nowait, item)

        return put, receiving

    def subscribe(self, key: str) -> trio.MemoryReceiveChannel[tuple[str, bytes]]:
        put, receiving = self._hand_over()
        self.session.declare_subscriber(key, lambda sample: put((str(sample.key_expr), sample.payload.to_bytes())))
        return receiving

    def answer(self, *keys: str) -> trio.MemoryReceiveChannel[tuple[str, bytes]]:
        """Take queries on these keys: reply to each at once, with nothing, which acknowledges what has come in it."""
        put, receiving = self._hand_over()

        def came(query: zenoh.Query) -> None:
            put((str(query.key_expr), query.payload.to_bytes() if query.payload is not None else b""))
            query.reply(query.key_expr, b"")
            query.drop()

        for key in keys:
            self.session.declare_queryable(key, came, complete=True)
        return receiving

    def reply_with(self, key: str, replies: Callable[[bytes], Sequence[bytes]], failure: bytes) -> None:
        """Answer queries, each with some replies; with a failure where there are none."""

        def came(query: zenoh.Query) -> None:
            found = replies(query.payload.to_bytes() if query.payload is not None else b"")
            for payload in found:
                query.reply(query.key_expr, payload)
            if not found:
                query.reply_err(failure)
            query.drop()

        self.session.declare_queryable(key, came)

    async def put(self, key: str, payload: bytes) -> None:
        await trio.to_thread.run_sync(self.session.put, key, payload)

    async def ask(self, key: str, payload: bytes, seconds: float = PATIENCE) -> list[bytes]:
        """Send a query and return the payloads of all replies: none if nobody has answered."""
        return [reply.ok.payload.to_bytes() for reply in await self._ask(key, payload, seconds) if reply.ok is not None]

    async def ask_failing(self, key: str, payload: bytes, seconds: float = PATIENCE) -> list[bytes]:
        """Send a query and return the reasons of all that could not answer it."""
        replies = await self._ask(key, payload, seconds)
        return [reply.err.payload.to_bytes() for reply in replies if reply.err is not None]

    async def _ask(self, key: str, payload: bytes, seconds: float) -> list[zenoh.Reply]:
        return await trio.to_thread.run_sync(lambda: list(self.session.get(key, payload=payload, timeout=seconds)))


@contextlib.asynccontextmanager
async def open_outsider(endpoint: str) -> AsyncIterator[Outsider]:
    """Be a client of the router at this endpoint."""
    config = zenoh.Config()
    config.insert_json5("mode", '"client"')
    config.insert_json5("connect/endpoints", json.dumps([endpoint]))
    config.insert_json5("transport/shared_memory/enabled", "false")
    session = await trio.to_thread.run_sync(zenoh.open, config)
    try:
        yield Outsider(session)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(session.close)
