"""What is at which path of an endpoint."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from http import HTTPStatus
from importlib.resources import files
from typing import TypeAlias

import trio

from taktora_trio.errors import ConnectorError
from taktora_trio.operate.endpoint.access import Access
from taktora_trio.operate.endpoint.http import Request, Response
from taktora_trio.operate.endpoint.metrics import exposition
from taktora_trio.operate.endpoint.sampling import Sampler
from taktora_trio.operate.probes import Check, alive, as_text, ready
from taktora_trio.transport.domain import Domain
from taktora_trio.vitals import read

__all__ = ["Answers"]

_HTML, _TEXT = "text/html; charset=utf-8", "text/plain; charset=utf-8"
_SCRIPTS = ("page.js", "dom.js", "flow.js", "words.js")
_MAX_AGE = 13.0  # seconds of silence: as `healthcheck` takes, which waits for 3 s where 10 have passed
_PAUSE = 1.0  # seconds before a wrong token is refused: who guesses shall not be fast
_WATCHERS = 16  # pages that are open at the same time

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class Answers:
    """Answers requests for a domain; with a `sampler`, also those of the web page."""

    def __init__(self, domain: Domain, access: Access, sampler: Sampler | None) -> None:
        self._domain = domain
        self._access = access
        self._sampler = sampler
        self._watchers = 0
        self._open: dict[str, Handler] = {"/livez": self._livez, "/readyz": self._readyz}
        self._guarded: dict[str, Handler] = {"/metrics": self._metrics}
        if sampler is not None:
            self._guarded |= {"/": _file("page.html", _HTML), "/events": self._events}
            self._open |= {
                "/page.css": _file("page.css", "text/css; charset=utf-8"),
                **{f"/{name}": _file(name, "text/javascript; charset=utf-8") for name in _SCRIPTS},
                "/icon.svg": _file("icon.svg", "image/svg+xml"),
            }

    async def __call__(self, request: Request) -> Response:
        """Return the answer to a request."""
        if not self._access.is_meant(request):
            return _text(421, "This endpoint answers to localhost and 127.0.0.1 alone; with a token, to any name.")
        if request.path == "/login" and self._sampler is not None:
            return await self._login(request)
        handler = self._open.get(request.path) or self._guarded.get(request.path)
        if handler is None:
            return _text(404, f"There is nothing here; there is {', '.join(sorted({*self._open, *self._guarded}))}.")
        if request.method not in ("GET", "HEAD"):
            return _text(405, "Ask by GET.", ("allow", "GET, HEAD"))
        if request.path in self._guarded and not self._access.allows(request):
            return await self._refused(request)
        return await handler(request)

    async def _livez(self, request: Request) -> Response:
        try:
            checks = alive(self._domain, _MAX_AGE)
        except ConnectorError as exc:
            checks = [Check(False, str(exc))]
        return self._probed(request, checks, "livez")

    async def _readyz(self, request: Request) -> Response:
        try:
            checks = ready(read(self._domain))
        except ConnectorError as exc:
            checks = [Check(False, str(exc))]
        return self._probed(request, checks, "readyz")

    def _probed(self, request: Request, checks: list[Check], what: str) -> Response:
        """Return what a probe asked for. The reasons, which may name a peer, are for who may see the rest, too."""
        shown = checks if self._access.allows(request) else [Check(check.is_well, "...") for check in checks]
        status = 200 if all(check.is_well for check in checks) else 503
        return Response(status=status, content=as_text(shown, what).encode())

    async def _metrics(self, request: Request) -> Response:
        try:
            vitals = read(self._domain)
        except ConnectorError:
            vitals = None
        content, content_type = exposition(vitals, self._domain.name, request.headers.get("accept", ""))
        return Response(content=content, content_type=content_type)

    async def _events(self, request: Request) -> Response:
        assert self._sampler is not None
        if self._watchers >= _WATCHERS:
            return _text(503, f"{_WATCHERS} pages are open already.")
        return Response(content_type="text/event-stream", pieces=self._counted(self._sampler))

    async def _counted(self, sampler: Sampler) -> AsyncGenerator[bytes, None]:
        self._watchers += 1
        try:
            async with contextlib.aclosing(sampler.events()) as events:
                async for event in events:
                    yield event
        finally:
            self._watchers -= 1

    async def _login(self, request: Request) -> Response:
        if request.method != "POST":
            return _text(405, "Send the token by POST.", ("allow", "POST"))
        cookie = self._access.cookie_for(request.body)
        if cookie is None:
            await trio.sleep(_PAUSE)
            return await self._login_page(403)
        return Response(status=303, headers=(("location", "/"), ("set-cookie", cookie)))

    async def _refused(self, request: Request) -> Response:
        if request.path == "/":
            return await self._login_page(401)
        return _text(401, "Give the token: `Authorization: Bearer TOKEN`.", ("www-authenticate", "Bearer"))

    async def _login_page(self, status: int) -> Response:
        content = _content("login.html")
        if status == HTTPStatus.FORBIDDEN:
            content = content.replace(
                b"<!-- message -->", b'<p role="alert">That is not the token of this endpoint.</p>'
            )
        return Response(status=status, content=content, content_type=_HTML, headers=(("www-authenticate", "Bearer"),))


def _file(name: str, content_type: str) -> Handler:
    response = Response(content=_content(name), content_type=content_type)

    async def handler(request: Request) -> Response:
        return response

    return handler


def _content(name: str) -> bytes:
    return files(__package__).joinpath("page", name).read_bytes()


def _text(status: int, line: str, *headers: tuple[str, str]) -> Response:
    return Response(status=status, content=f"{line}\n".encode(), headers=headers)
