"""HTTP/1.1 over trio's streams: every request, connection and wait is bounded, since anybody may connect."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import TypeAlias

import h11
import msgspec
import trio

__all__ = ["Answer", "Limits", "Request", "Response", "serve_http"]

_CHUNK = 16 * 1024  # bytes that are read at once
_ALWAYS = (
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a client gets at most. Sizes in bytes, times in seconds."""

    connections: int = 64
    head: int = 16 * 1024
    body: int = 4 * 1024
    request: float = 10.0
    """From the first byte of a request to its last."""
    idle: float = 75.0
    """Between two requests of a connection: more than the pause of most scrapers."""
    send: float = 10.0
    """For a client to take a piece of the answer."""


class Request(msgspec.Struct, frozen=True):
    """A request, which was read whole. The names of headers are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """An answer; with `pieces` one that goes on until these end, or the client goes."""

    status: int = 200
    content: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    pieces: AsyncGenerator[bytes, None] | None = None


Answer: TypeAlias = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):
    """A request that is not answered as it asks for, and ends its connection."""

    def __init__(self, status: int) -> None:
        self.status = status


async def serve_http(
    listener: trio.SocketListener,
    answer: Answer,
    limits: Limits = Limits(),  # noqa: B008 - it is frozen
) -> None:
    """Serve: answer requests until cancelled. What is wrong with a client ends its connection alone."""
    open_now = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal open_now
        open_now += 1
        try:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                connection = _Connection(stream, limits)
                if open_now > limits.connections:
                    await connection.refuse(HTTPStatus.SERVICE_UNAVAILABLE)
                else:
                    await connection.serve(answer)
        finally:
            open_now -= 1
            await trio.aclose_forcefully(stream)

    await trio.serve_listeners(serve, [listener])


class _Connection:
    """One client's connection."""

    def __init__(self, stream: trio.SocketStream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head)

    async def serve(self, answer: Answer) -> None:
        """Answer one request after another, until one of the two sides has enough."""
        while True:
            try:
                request = await self._next()
            except _Refused as exc:
                await self.refuse(exc.status)
                return
            if request is None:
                return
            await self._send(await answer(request), with_content=request.method != "HEAD")
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def refuse(self, status: int) -> None:
        """Say so, if it may still be said, and end the connection."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            content = f"{HTTPStatus(status).phrase}\n".encode()
            await self._send(Response(status=status, content=content, headers=(("connection", "close"),)))

    async def _next(self) -> Request | None:
        """Return the next request; `None` if there is none any more. Raises `_Refused`."""
        if not self._http.trailing_data[0]:
            with trio.move_on_after(self._limits.idle) as idle:
                self._http.receive_data(await self._stream.receive_some(_CHUNK))
            if idle.cancelled_caught:
                return None
        try:
            with trio.fail_after(self._limits.request):
                return await self._read()
        except trio.TooSlowError:
            raise _Refused(HTTPStatus.REQUEST_TIMEOUT) from None
        except h11.RemoteProtocolError as exc:
            raise _Refused(exc.error_status_hint) from None

    async def _read(self) -> Request | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._transmit(h11.InformationalResponse(status_code=100, headers=[]))
                self._http.receive_data(await self._stream.receive_some(_CHUNK))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._limits.body:
                    raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                path, _, query = head.target.decode("ascii").partition("?")
                headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
                return Request(head.method.decode("ascii"), path, query, headers, bytes(body))
            else:  # the client has closed its side
                return None

    async def _send(self, response: Response, *, with_content: bool = True) -> None:
        headers = [
            *_ALWAYS,
            ("date", formatdate(usegmt=True)),
            ("content-type", response.content_type),
            *response.headers,
        ]
        if response.pieces is None:
            headers.append(("content-length", str(len(response.content))))
        await self._transmit(
            h11.Response(status_code=response.status, headers=headers, reason=HTTPStatus(response.status).phrase)
        )
        if with_content:
            if response.content:
                await self._transmit(h11.Data(data=response.content))
            if response.pieces is not None:
                async with contextlib.aclosing(response.pieces) as pieces:
                    async for piece in pieces:
                        await self._transmit(h11.Data(data=piece))
        await self._transmit(h11.EndOfMessage())

    async def _transmit(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            try:
                with trio.fail_after(self._limits.send):
                    await self._stream.send_all(data)
            except trio.TooSlowError:  # it takes nothing: whatever it has of the answer, there will be no more
                raise trio.BrokenResourceError from None
