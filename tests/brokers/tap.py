"""A proxy that counts the MQTT packets that pass, and holds back a direction: for a fault at the exact moment.

What it holds back when a connection ends is lost, as in a network.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Literal, TypeAlias

import attrs
import trio
from trio_util import AsyncBool

from tests.brokers.packets import split

__all__ = ["Tap", "Way", "open_tap"]

Way: TypeAlias = Literal["up", "down"]
"""`up` is from the gateway to its broker."""
_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends RST instead of FIN (socket(7))


@attrs.define(eq=False)
class Tap:
    port: int
    broker_port: int
    upstream: Counter[int] = attrs.field(factory=Counter)
    """Packets that the gateway has sent, by kind, whether they passed or were held back."""
    downstream: Counter[int] = attrs.field(factory=Counter)
    on_upstream: Callable[[int], None] = lambda kind: None
    """Called with the kind of each."""
    accepted: int = 0
    _open: dict[Way, AsyncBool] = attrs.field(factory=lambda: {"up": AsyncBool(True), "down": AsyncBool(True)})
    _connections: set[trio.CancelScope] = attrs.field(factory=set)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def hold(self, *ways: Way) -> None:
        """Let nothing through there, from now on."""
        for way in ways:
            self._open[way].value = False

    def release(self) -> None:
        for way in self._open.values():
            way.value = True

    def cut(self) -> None:
        """Reset every connection there is; what was held back is lost."""
        for scope in self._connections:
            scope.cancel()

    async def serve_connection(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.broker_port)
        except OSError:
            _reset(client)
            return
        self.accepted += 1
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
                _reset(client)
                _reset(server)

    async def _carry(
        self, source: trio.SocketStream, sink: trio.SocketStream, way: Way, both: trio.CancelScope
    ) -> None:
        rest, gate = b"", self._open[way]
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in source:
                packets, rest = split(rest + data)
                for found in packets:
                    (self.upstream if way == "up" else self.downstream)[found.kind] += 1
                    if way == "up":
                        self.on_upstream(found.kind)
                await gate.wait_value(True)
                await sink.send_all(data)
        both.cancel()


def _reset(stream: trio.SocketStream) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


@contextlib.asynccontextmanager
async def open_tap(broker_port: int) -> AsyncIterator[Tap]:
    """On a free port of loopback, while the block lasts."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        tap = Tap(listeners[0].socket.getsockname()[1], broker_port)
        nursery.start_soon(trio.serve_listeners, tap.serve_connection, listeners)
        yield tap
        nursery.cancel_scope.cancel()
