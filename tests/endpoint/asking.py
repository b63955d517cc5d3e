"""Asking an endpoint in a test: raw bytes over a socket pair, as a good or a bad client sends them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator

import attrs
import h11
import trio

from taktora_trio.operate.endpoint.http import Answer, Limits, serve_http


@attrs.frozen
class Reply:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()


@contextlib.asynccontextmanager
async def open_server(answer: Answer, limits: Limits | None = None) -> AsyncIterator[tuple[str, int]]:
    """Serve at a free port, and yield where."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(serve_http, listener, answer, limits or Limits())
        yield listener.socket.getsockname()
        nursery.cancel_scope.cancel()


class Client:
    """A client that does as it is told, on one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def ask(self, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Reply:
        """Send a request, and return the answer to it."""
        given = {"host": "localhost", **{name.replace("_", "-"): text for name, text in headers.items()}}
        if body:
            given["content-length"] = str(len(body))
        request = h11.Request(method=method, target=path, headers=list(given.items()))
        data = self._http.send(request) or b""
        if body:
            data += self._http.send(h11.Data(data=body)) or b""
        await self.stream.send_all(data + (self._http.send(h11.EndOfMessage()) or b""))
        return await self.reply()

    async def reply(self) -> Reply:
        """Return the next answer."""
        head: h11.Response | None = None
        content = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self.stream.receive_some())
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                content += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
                    self._http.start_next_cycle()
                headers = {name.decode(): value.decode() for name, value in head.headers}
                return Reply(head.status_code, headers, bytes(content))


@contextlib.asynccontextmanager
async def open_client(address: tuple[str, int] | str) -> AsyncIterator[Client]:
    """Connect to a port, or to a unix socket."""
    if isinstance(address, str):
        stream = trio.SocketStream(trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        await stream.socket.connect(address)
    else:
        stream = await trio.open_tcp_stream(*address)
    async with stream:
        yield Client(stream)


async def ask(address: tuple[str, int] | str, path: str, **headers: str) -> Reply:
    """Ask once."""
    async with open_client(address) as client:
        return await client.ask(path, "GET", b"", **headers)
