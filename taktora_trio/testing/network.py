"""The network between a connector and its peer: a TCP proxy on loopback that fails as it is told to."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TypeAlias

import attrs
import trio

__all__ = ["Connect", "HandOn", "Network", "open_network", "reset_on_close"]

Connect: TypeAlias = Callable[[], Awaitable[trio.abc.Stream]]
"""Connects to the server. Raises `OSError`."""
HandOn: TypeAlias = Callable[[trio.abc.ReceiveStream, Callable[[bytes], Awaitable[None]]], Awaitable[None]]
"""Hands on what the server says on one connection, to its end: called with the stream, and with what sends."""

_CHUNK = 65_536
_FAREWELL = 1.0  # seconds for the connector to see a polite end
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends RST instead of FIN (socket(7))


@attrs.define(eq=False)
class _Link:
    """One connection through the network."""

    client: trio.SocketStream
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    reset: bool = True
    is_dead: bool = False
    may_answer: trio.Event = attrs.field(factory=trio.Event)
    sending: trio.Lock = attrs.field(factory=trio.Lock)


class Network:
    """Carries connections to one server. Use `open_network`."""

    def __init__(self, port: int, connect: Connect, hand_on: HandOn) -> None:
        self.port = port
        self.accepted = 0
        """Counts the connections that have come, however they fared."""
        self.is_down = False
        """True resets each new connection."""
        self.is_deaf = False
        """True takes each new connection, and never says a word on it."""
        self.greeting: bytes | None = None
        """Sent on each new connection in place of all that the server says."""
        self._connect, self._hand_on = connect, hand_on
        self._links: set[_Link] = set()
        self._news = trio.Event()

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._links)

    @property
    def unread(self) -> int:
        """The bytes that the connector has sent on the connections there are, and that were not carried on yet."""
        total = 0
        for link in self._links:
            count = bytearray(4)
            fcntl.ioctl(link.client.socket.fileno(), termios.FIONREAD, count)  # tty_ioctl(4), tcp(7)
            total += int.from_bytes(count, sys.byteorder)
        return total

    async def next_attempt(self) -> None:
        """Wait for the next connection, however it fares."""
        await self._news.wait()

    def cut(self, *, reset: bool = True) -> None:
        """End every connection there is, by a reset or by a polite close. New ones work."""
        for link in self._links:
            link.reset = reset
            link.scope.cancel()

    def mute(self) -> None:
        """Keep back what the server says on the connections there are; what it is told still arrives."""
        for link in self._links:
            link.may_answer = trio.Event()

    def unmute(self) -> None:
        """Hand on what was kept back."""
        for link in self._links:
            link.may_answer.set()

    def fall_silent(self) -> None:
        """Lose all that either side sends on the connections there are, and keep them open. New ones work."""
        for link in self._links:
            link.is_dead = True

    async def inject(self, data: bytes) -> None:
        """Send this to the connector on the connections there are, as if the server did."""
        for link in list(self._links):
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._send(link, data)

    async def serve(self, client: trio.SocketStream) -> None:
        """Carry one connection to its end."""
        self.accepted += 1
        self._news.set()
        self._news = trio.Event()
        if self.is_down:
            reset_on_close(client)
            return
        link = _Link(client)
        link.may_answer.set()
        self._links.add(link)
        try:
            with link.scope:
                if self.greeting is not None or self.is_deaf:
                    await self._stand_in(client)
                else:
                    await self._carry(link)
            if link.scope.cancelled_caught:
                await self._end(link)
        finally:
            self._links.discard(link)

    async def _end(self, link: _Link) -> None:
        if link.reset:
            reset_on_close(link.client)
            return
        with trio.move_on_after(_FAREWELL), contextlib.suppress(trio.BrokenResourceError):
            await link.client.send_eof()
            while await link.client.receive_some(_CHUNK):  # to close with something unread would be a reset
                pass

    async def _send(self, link: _Link, data: bytes | bytearray) -> None:
        async with link.sending:
            await link.client.send_all(data)

    async def _stand_in(self, client: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await client.send_all(self.greeting or b"")
            while await client.receive_some(_CHUNK):
                pass

    async def _carry(self, link: _Link) -> None:
        try:
            server = await self._connect()
        except OSError:
            reset_on_close(link.client)
            return
        async with server, trio.open_nursery() as nursery:

            async def ask() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    while data := await link.client.receive_some(_CHUNK):
                        if not link.is_dead:
                            await server.send_all(data)
                nursery.cancel_scope.cancel()

            async def hand_on(data: bytes) -> None:
                await link.may_answer.wait()
                if not link.is_dead:
                    await self._send(link, data)

            async def answer() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    await self._hand_on(server, hand_on)
                if not link.is_dead:  # whatever happens behind a dead connection, its other end does not learn of it
                    nursery.cancel_scope.cancel()

            nursery.start_soon(ask)
            nursery.start_soon(answer)


def reset_on_close(stream: trio.SocketStream) -> None:
    """Have the connection end by a reset when it is closed."""
    with contextlib.suppress(OSError):  # it is closed already
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


async def _hand_on_all(server: trio.abc.ReceiveStream, send: Callable[[bytes], Awaitable[None]]) -> None:
    while data := await server.receive_some(_CHUNK):
        await send(bytes(data))


@contextlib.asynccontextmanager
async def open_network(server: int | Connect, hand_on: HandOn = _hand_on_all) -> AsyncIterator[Network]:
    """A network in front of a server; at the end of the block every connection is reset.

    The server is on this port of 127.0.0.1, or where a function connects to.
    """
    connect = partial(trio.open_tcp_stream, "127.0.0.1", server) if isinstance(server, int) else server
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        network = Network(listeners[0].socket.getsockname()[1], connect, hand_on)
        nursery.start_soon(trio.serve_listeners, network.serve, listeners)
        yield network
        nursery.cancel_scope.cancel()
