"""A TCP proxy on loopback that can fail as networks do: cut, slow, stalled, half-open, nobody there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from enum import Enum

import attrs
import trio
from trio_util import AsyncValue

from taktora_trio.testing.network import reset_on_close

__all__ = ["Mode", "Proxy", "open_proxy"]

_CHUNK = 65_536


class Mode(Enum):
    """Happens to every connection, from now on."""

    PASS = "pass"  # noqa: S105 - no password
    SLOW = "slow"
    """Everything passes in small pieces, each after a delay."""
    STALL = "stall"
    """Nothing passes, and all of it does later."""
    REFUSE = "refuse"
    """New connections are reset at once; those there are go on."""


@attrs.define(eq=False)
class _Connection:
    client: trio.SocketStream
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    swallows: bool = False


class Proxy:
    """A proxy in front of one server. Use `open_proxy`."""

    def __init__(self, port: int, server_port: int) -> None:
        self.port = port
        self.accepted = 0
        """Connections so far, without those that were refused."""
        self._server_port = server_port
        self._mode = AsyncValue(Mode.PASS)
        self._piece, self._delay = _CHUNK, 0.0
        self._connections: set[_Connection] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """The number of those that are open now."""
        return len(self._connections)

    def set_mode(self, mode: Mode, *, piece: int = _CHUNK, delay: float = 0.0) -> None:
        """Change the mode. `piece` bytes at once, and `delay` seconds before each, are for `SLOW`."""
        self._mode.value = mode
        self._piece, self._delay = (piece, delay) if mode is Mode.SLOW else (_CHUNK, 0.0)

    def cut(self) -> None:
        """Reset every connection there is."""
        for connection in self._connections:
            connection.scope.cancel()

    def go_half_open(self) -> None:
        """Every connection there is stays open, and what either side sends on it is lost. New ones work."""
        for connection in self._connections:
            connection.swallows = True

    async def serve_connection(self, client: trio.SocketStream) -> None:
        """Carry one connection to its end."""
        connection = _Connection(client)
        if self._mode.value is Mode.REFUSE:
            reset_on_close(client)
            return
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self._server_port)
        except OSError:
            reset_on_close(client)
            return
        self.accepted += 1
        self._connections.add(connection)
        try:
            async with server:
                with connection.scope:
                    await self._carry(connection, server)
                if connection.scope.cancelled_caught:
                    reset_on_close(client)
                    reset_on_close(server)
        finally:
            self._connections.discard(connection)

    async def _carry(self, connection: _Connection, server: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:

            async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    while data := await source.receive_some(_CHUNK):
                        await self._pass_on(connection, data, sink)
                # The one side of a half-open connection does not learn what happens at the other.
                if not (connection.swallows and source is server):
                    nursery.cancel_scope.cancel()

            nursery.start_soon(pump, connection.client, server)
            nursery.start_soon(pump, server, connection.client)

    async def _pass_on(self, connection: _Connection, data: bytes | bytearray, sink: trio.SocketStream) -> None:
        while data and not connection.swallows:
            if self._mode.value is Mode.STALL:
                await self._mode.wait_value(lambda mode: mode is not Mode.STALL)
                continue
            await trio.sleep(self._delay)
            await sink.send_all(data[: self._piece])
            data = data[self._piece :]


@contextlib.asynccontextmanager
async def open_proxy(server_port: int) -> AsyncIterator[Proxy]:
    """Run a proxy on a free port of 127.0.0.1 while the block lasts; at its end every connection is reset."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        proxy = Proxy(listeners[0].socket.getsockname()[1], server_port)
        nursery.start_soon(trio.serve_listeners, proxy.serve_connection, listeners)
        yield proxy
        nursery.cancel_scope.cancel()
