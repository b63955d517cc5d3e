"""Who may ask: whoever has the token; without one, whoever is on this machine and asks for this machine.

A browser on this machine also asks for pages of other places, whose names may come to stand for this machine (DNS
rebinding). So without a token the `Host` has to be one of this machine's own names.
"""

from __future__ import annotations

import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from taktora_trio.digest import sha256
from taktora_trio.operate.endpoint.http import Request

__all__ = ["Access"]

_SESSION = b"a session of the web page"


class Access:
    """Decides by the token; `None` if there is none. `checks_host` for a port that only this machine reaches."""

    def __init__(self, token: str | None, *, checks_host: bool) -> None:
        self._token = None if token is None else token.encode()
        self._checks_host = checks_host and token is None

    def is_meant(self, request: Request) -> bool:
        """Return whether the request is for this machine, as far as that has to be asked."""
        return not self._checks_host or _is_this_machine(request.headers.get("host", ""))

    def allows(self, request: Request) -> bool:
        """Return whether the request has the token, or the cookie that stands for it; or none is needed."""
        if self._token is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(errors="replace"), self._token):
            return True
        return self._has_cookie(request)

    def cookie_for(self, form: bytes) -> str | None:
        """Return the cookie for whoever has sent the token by the form of the page; `None` for another one."""
        try:
            [given] = parse_qs(form.decode("latin-1"), max_num_fields=4).get("token", [""])
        except ValueError:
            return None
        if self._token is None or not hmac.compare_digest(given.strip().encode(errors="replace"), self._token):
            return None
        return f"{self._name()}={self._value()}; Path=/; HttpOnly; SameSite=Strict"

    def _has_cookie(self, request: Request) -> bool:
        try:
            cookies = SimpleCookie(request.headers.get("cookie", ""))
        except CookieError:
            return False
        morsel = cookies.get(self._name())
        return morsel is not None and hmac.compare_digest(morsel.value.encode(errors="replace"), self._value().encode())

    def _name(self) -> str:
        """Return the cookie's name. Ports of one machine share their cookies, so each token has a name of its own."""
        assert self._token is not None
        return f"taktora-{sha256(b'name' + self._token).hexdigest()[:8]}"

    def _value(self) -> str:
        """Return what stands for the token: from it nobody gets the token itself."""
        assert self._token is not None
        return hmac.new(self._token, _SESSION, "sha256").hexdigest()


def _is_this_machine(host: str) -> bool:
    name = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
