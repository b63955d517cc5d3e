"""Endpoints of nodes: `tcp/HOST:PORT`, checked where they are declared. Pure."""

from __future__ import annotations

import re

import msgspec

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped

__all__ = ["Endpoint", "parse_endpoint"]

OF_HOSTS = ("tcp", "udp", "tls", "quic", "ws")
"""The protocols whose address is a host and a port."""
_UNIX = "unixsock-stream"
_PROTOCOLS = (*OF_HOSTS, _UNIX)  # what the library's wheels are built with
_HOST_AND_PORT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[^\]]+)?)\]|(?P<host>[^:\[\]/\s]+)):(?P<port>\d{1,5})")
_FORM = "write PROTOCOL/HOST:PORT, such as tcp/127.0.0.1:7447"


class Endpoint(msgspec.Struct, frozen=True):
    """Where a node listens, or is to be found."""

    text: str
    """As it was given."""
    protocol: str
    host: str = ""
    port: int = 0
    path: str = ""
    """Of a unix socket."""

    @property
    def is_tls(self) -> bool:
        return self.protocol in ("tls", "quic")

    @property
    def is_stream(self) -> bool:
        """True if a connection of TCP, or of a unix socket, tells whether somebody is there."""
        return self.protocol not in ("udp", "quic")

    def __str__(self) -> str:
        """The endpoint as it may be shown, without what the library is to do with it (`?...`, `#...`)."""
        return re.split("[?#]", self.text, maxsplit=1)[0]


def parse_endpoint(text: object) -> Endpoint:
    """Return what an endpoint says. Raises `ConfigError`, which says what to write."""
    if not isinstance(text, str) or not text or not text.isprintable():
        raise ConfigError(f"{str(text)[:80]!r} is no endpoint: {_FORM}")
    shown = repr(escaped(text[:80]))
    protocol, slash, rest = text.partition("/")
    if "://" in text:
        scheme, _, address = text.partition("://")
        instead = {"mqtt": "tcp", "mqtts": "tls", "wss": "tls"}.get(scheme, scheme)
        host = address.rpartition("@")[2]  # and no password
        raise ConfigError(f"an endpoint is no URL: write {escaped(instead)}/{escaped(host)}")
    if not slash:
        hint = f"write tcp/{escaped(text)}" if _HOST_AND_PORT.fullmatch(text) else _FORM
        raise ConfigError(f"{shown} is no endpoint, since it names no protocol: {hint}")
    if protocol not in _PROTOCOLS:
        raise ConfigError(f"{shown}: there is no protocol {escaped(protocol)!r}; use {', '.join(_PROTOCOLS)}")
    if "private_key" in rest:
        raise ConfigError(f"an endpoint of {protocol}/ has a private key in it, which would be shown: use key_file")
    address = re.split("[?#]", rest, maxsplit=1)[0]
    if protocol == _UNIX:
        if not address.startswith("/"):
            raise ConfigError(f"{shown}: the path of a unix socket is absolute: write {_UNIX}//run/router.sock")
        return Endpoint(text, protocol, path=address)
    found = _HOST_AND_PORT.fullmatch(address)
    if found is None or int(found["port"]) > 65_535:
        hint = f"write {protocol}/{escaped(address)}:7447" if re.fullmatch(r"[\w.-]+", address) else _FORM
        raise ConfigError(f"{shown}: a host and a port, up to 65535, follow the protocol: {hint}")
    return Endpoint(text, protocol, host=found["six"] or found["host"], port=int(found["port"]))
