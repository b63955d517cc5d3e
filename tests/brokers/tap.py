"""A proxy that counts the MQTT packets that pass, and swallows some: for a fault at the exact moment."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Literal, TypeAlias

import attrs
import trio
from trio_util import AsyncValue

from taktora_trio.testing.network import reset_on_close
from tests.brokers.packets import PUBACK, PUBCOMP, PUBREC, PUBREL, packet, split

__all__ = ["ACKNOWLEDGEMENTS", "EVERYTHING", "LAST_WORDS", "Tap", "Way", "open_tap"]

Way: TypeAlias = Literal["up", "down"]
"""`up` is from the gateway to its broker."""
EVERYTHING = frozenset(range(16))
ACKNOWLEDGEMENTS = frozenset({PUBACK, PUBREC, PUBREL, PUBCOMP})
LAST_WORDS = frozenset({PUBACK, PUBCOMP})
"""The packets that end an exchange: one who does not get it can't know that the other side is done."""


@attrs.define(eq=False)
class Tap:
    """Carries connections to a broker, counts their packets, and may lose some kinds. Use `open_tap`."""

    port: int
    broker_port: int
    up: Counter[int] = attrs.field(factory=Counter)
    """Packets that the gateway has sent, by kind, whether they passed or not."""
    down: Counter[int] = attrs.field(factory=Counter)
    packets: AsyncValue[int] = attrs.field(factory=lambda: AsyncValue(0))
    """The number of packets of any kind and both ways."""
    on_up: Callable[[int], None] = lambda kind: None
    """Called with the kind of each."""
    swallows: frozenset[int] = frozenset()
    """The kinds that are lost on their way, in either direction, from now on."""
    refuses: bool = False
    """True if new connections are reset at once."""
    _connections: set[trio.CancelScope] = attrs.field(factory=set)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset every connection there is."""
        for scope in self._connections:
            scope.cancel()

    async def until_seen(self, way: Way, kind: int, count: int, seconds: float = 20) -> None:
        """Wait until so many packets of this kind have come from that side."""
        seen = self.up if way == "up" else self.down
        with trio.fail_after(seconds):
            await self.packets.wait_value(lambda _: seen[kind] >= count)

    async def serve_connection(self, client: trio.SocketStream) -> None:
        try:
            server = None if self.refuses else await trio.open_tcp_stream("127.0.0.1", self.broker_port)
        except OSError:
            server = None
        if server is None:
            reset_on_close(client)
            return
        async with server:
            with trio.CancelScope() as scope:
                self._connections.add(scope)
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._carry, client, server, "up", nursery.cancel_scope)
                        nursery.start_soon(self._carry, server, client, "down", nursery.cancel_scope)
                finally:
                    self._connections.discard(scope)
            if scope.cancelled_caught:
                reset_on_close(client)
                reset_on_close(server)

    async def _carry(
        self, source: trio.SocketStream, sink: trio.SocketStream, way: Way, both: trio.CancelScope
    ) -> None:
        rest, seen = b"", self.up if way == "up" else self.down
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in source:
                found, rest = split(rest + data)
                passing = [one for one in found if one.kind not in self.swallows]
                for one in found:
                    seen[one.kind] += 1
                    if way == "up":
                        self.on_up(one.kind)
                self.packets.value += len(found)
                await sink.send_all(b"".join([packet(one.kind, one.body, flags=one.first & 15) for one in passing]))
        both.cancel()


@contextlib.asynccontextmanager
async def open_tap(broker_port: int) -> AsyncIterator[Tap]:
    """Run a tap on a free port of loopback while the block lasts."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        tap = Tap(listeners[0].socket.getsockname()[1], broker_port)
        nursery.start_soon(trio.serve_listeners, tap.serve_connection, listeners)
        yield tap
        nursery.cancel_scope.cancel()
