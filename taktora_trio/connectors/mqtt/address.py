"""The broker's address: from the text of a URL, and back to a text that shows nothing secret."""

from __future__ import annotations

import os
import re
from typing import Literal
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

import attrs

from taktora_trio.checks import flag, one_of, optional, whole_number
from taktora_trio.connectors.mqtt.checks import binary, mqtt_string
from taktora_trio.errors import ConfigError

__all__ = ["BrokerAddress", "split_urls"]

Transport = Literal["tcp", "unix", "websocket"]
_SCHEMES: dict[str, tuple[Transport, int, bool]] = {  # transport, port, TLS
    "mqtt": ("tcp", 1883, False),
    "mqtts": ("tcp", 8883, True),
    "ws": ("websocket", 80, False),
    "wss": ("websocket", 443, True),
    "unix": ("unix", 0, False),
}
_EXAMPLE = "it looks like mqtt://user:password@host:1883, or mqtts:// for TLS, or ws://, wss://, unix:///path"
_LISTED = "or it is a list with a part that is no whole URL: write mqtt://one:1883,mqtt://other:1883"
# `urlsplit` leaves some of these out without a word.
_CONTROL = re.compile("[\\x00-\\x1f\\x7f]")
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"(?=.{1,254}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_ZONE = re.compile("[!-$&-.0-Z\\\\^-~]+")  # what can be written within the brackets of a URL
_TARGET = re.compile("[!-~]*")  # visible ASCII


_BETWEEN = re.compile(rf"\s*[,\n]\s*(?=(?:{'|'.join(_SCHEMES)})://)")


def split_urls(text: str) -> list[str]:
    """Return the URLs of a list, which has commas or line ends between them.

    A comma within a URL may stand as it is, unless the rest looks like one more URL: then it is written `%2C`.
    """
    return _BETWEEN.split(text)


def _bytes(value: bytes | str | None) -> bytes | None:
    """Return a password as the bytes that MQTT sends (MQTT 5, section 3.1.3.6): a text as UTF-8."""
    if not isinstance(value, str):
        return value
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise ConfigError("BrokerAddress: password is a str that has no UTF-8: give bytes") from None


def _ascii(host: str) -> str:
    """Return a host name in the form that the resolver and TLS take (IDNA 2008)."""
    if isinstance(host, str) and not host.isascii():
        import idna  # most hosts need none of it

        try:
            return idna.encode(host, uts46=True).decode()
        except UnicodeError as exc:
            raise ConfigError(f"the broker's host {host[:80]!r} is no host name: {exc}") from None
    return host


def _without_query(path: str) -> str:
    shown, asked, _ = path.partition("?")
    return f"{shown}?..." if asked else shown


@attrs.frozen
class BrokerAddress:
    """A broker: `mqtt://[user[:password]@]host[:port]`, or `mqtts://` for TLS.

    Also `ws://` and `wss://` with a path and a query after the port, for websockets, and `unix:///path` for a unix
    socket. Its text shows neither the password nor the query, where tokens stand. Raises `ConfigError` for what can't
    be the address of a broker.
    """

    host: str = attrs.field(converter=_ascii)
    """A name, or an address of IPv4 or IPv6; one of IPv6 may have its zone behind `%`."""
    port: int
    tls: bool = attrs.field(default=False, validator=flag)
    username: str | None = attrs.field(default=None, validator=optional(mqtt_string))
    password: bytes | None = attrs.field(default=None, repr=False, converter=_bytes, validator=optional(binary))
    """The bytes that are sent. A `str` is converted to UTF-8."""
    transport: Transport = attrs.field(default="tcp", validator=one_of("tcp", "unix", "websocket"))
    path: str = attrs.field(default="", repr=lambda path: repr(_without_query(path)))
    """The path of the unix socket; or the path and query of the websocket, quoted as they are sent (empty is `/`)."""

    def __attrs_post_init__(self) -> None:
        if self.transport == "unix":
            _check_socket(self.path)
            return
        _check_host(self.host)
        whole_number(1, 65_535)(self, attrs.fields(BrokerAddress).port, self.port)
        if self.transport == "websocket":
            _check_target(self.path)
        elif self.path:
            raise ConfigError("BrokerAddress: path is for a websocket or a unix socket")

    @classmethod
    def parse(cls, url: str) -> BrokerAddress:
        """Return the address that a URL stands for.

        Raises `ConfigError`, which does not repeat the URL: there may be a password in it.
        """
        parts, port = _split(url)
        if parts.scheme not in _SCHEMES or "://" not in url:
            scheme = parts.scheme if "://" in url and parts.scheme else "none"
            raise _wrong(f"must begin with mqtt:// or mqtts:// (its scheme is {scheme})")
        transport, default_port, tls = _SCHEMES[parts.scheme]
        if transport == "unix":
            if parts.hostname or port is not None or len(parts.path) < 2:
                raise _wrong("must name a socket as unix:///path, with three slashes")
        elif not parts.hostname:
            raise _wrong("names no host")
        if port == 0:
            raise _wrong("has port 0")
        target = url.partition("://")[2][len(parts.netloc) :]
        if "#" in target or (transport != "websocket" and "?" in target):
            raise _wrong("goes on after the port, or has a '#' or '?' that must be quoted as %23 or %3F")
        if transport == "tcp" and target not in ("", "/"):
            raise _wrong("goes on after the port")
        if transport == "websocket" and "@" in target:
            raise _wrong("has an '@' after the host: quote it as %40, and a '/' or '?' in the user or password too")
        return cls(
            host=_unquoted_zone(parts.hostname or ""),
            port=port or default_port,
            tls=tls,
            username=_user(parts.username) if parts.username else None,
            password=_unquoted(parts.password) if parts.password is not None else None,
            transport=transport,
            path=os.fsdecode(_unquoted(parts.path))
            if transport == "unix"
            else target
            if transport == "websocket"
            else "",
        )

    @property
    def bare_host(self) -> str:
        """The host without its zone, for TLS and HTTP. A zone is for this machine alone (RFC 6874, section 1)."""
        return self.host.partition("%")[0]

    @property
    def target(self) -> str:
        """The path and query of the websocket's request."""
        return self.path if self.path.startswith("/") else f"/{self.path}"

    @property
    def url(self) -> str:
        """The whole URL, with the secrets. `parse` makes the same address of it."""
        password = "" if self.password is None else f":{quote(self.password, safe='')}"
        return self._text(password, self.path)

    def __str__(self) -> str:
        return self._text("", _without_query(self.path))

    def _text(self, password: str, target: str) -> str:
        login = f"{quote(self.username or '', safe='')}{password}"
        login += "@" if login else ""
        if self.transport == "unix":
            return f"unix://{login}{quote(os.fsencode(self.path))}"
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        scheme = {"tcp": "mqtt", "websocket": "ws"}[self.transport] + ("s" if self.tls else "")
        return f"{scheme}://{login}{host}:{self.port}{target}"


def _wrong(what: str) -> ConfigError:
    return ConfigError(f"the broker URL {what}; {_EXAMPLE}")


def _split(url: str) -> tuple[SplitResult, int | None]:
    if _CONTROL.search(url):
        raise _wrong("has a control character, which must be quoted, such as %0A for a line break")
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:
        # Without its message: after an unquoted '/', '?' or '#' that may hold a part of the password.
        what = "has a bad host or port, or a sign in the user or password that must be quoted, such as %23 for '#'"
        raise _wrong(f"{what}, {_LISTED}" if "," in url else what) from None


def _unquoted(text: str) -> bytes:
    """Return the bytes that a part of a URL stands for. A surrogate stands for a byte that was no UTF-8."""
    if _STRAY_PERCENT.search(text):
        raise _wrong("has a '%' that must be quoted as %25")
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape"))


def _user(text: str) -> str:
    try:
        return _unquoted(text).decode()
    except UnicodeDecodeError:
        raise _wrong("has a user name that is no UTF-8, as MQTT has it; 'ü' is written %C3%BC") from None


def _unquoted_zone(host: str) -> str:
    """Return a host with its zone as the system takes it, from `fe80::1%25eth0` (RFC 6874) or `fe80::1%eth0`."""
    address, percent, zone = host.partition("%")
    return address + percent + (os.fsdecode(_unquoted(zone[2:])) if zone.startswith("25") and zone[2:] else zone)


def _check_host(host: object) -> None:
    if not isinstance(host, str) or not host:
        raise ConfigError(f"the broker's host is {host!r}; it must be a name or an address")
    if ":" in host:
        from ipaddress import AddressValueError, IPv6Address  # 0.4 MB, which few brokers' addresses need

        address, percent, zone = host.partition("%")
        try:
            IPv6Address(address)
        except AddressValueError:
            raise ConfigError(f"the broker's host {host[:80]!r} is no address of IPv6") from None
        if percent and not _ZONE.fullmatch(zone):
            raise ConfigError(f"the broker's host {host[:80]!r} has an impossible zone: it is an interface's name")
    elif "," in host:
        raise ConfigError(f"the broker's host {host[:80]!r} has a comma, {_LISTED}")
    elif not _HOST.fullmatch(host):
        raise ConfigError(
            f"the broker's host {host[:80]!r} is no host name: it has up to 253 letters, digits, '-' and '_', and '.'"
            " between parts of up to 63 of them"
        )


def _check_socket(path: object) -> None:
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise ConfigError(f"BrokerAddress: path is {path!r}; for a unix socket it must be an absolute path")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise ConfigError(f"BrokerAddress: path {path!r} can't be written in this locale") from None


def _check_target(target: object) -> None:
    if not isinstance(target, str) or (target and target[0] not in "/?"):
        raise ConfigError("BrokerAddress: path of a websocket begins with '/' or '?'")
    if not _TARGET.fullmatch(target) or "#" in target:
        raise ConfigError(
            "the path and query of a websocket are sent as written: quote what is no visible ASCII character, and '#',"
            " such as %20 for a blank and %C3%A9 for 'é'"
        )
