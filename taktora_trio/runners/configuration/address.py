"""Where an endpoint is to listen: a port of this machine, a unix socket, or a socket that is inherited."""

from __future__ import annotations

import ipaddress
import os
import re

import msgspec

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped

__all__ = ["Address", "parse_address"]

_LONGEST = 107  # bytes of a unix socket's path (unix(7))
_TCP = re.compile(r"(?:\[(?P<six>[^]]*)\]|(?P<host>[^:]*)):(?P<port>\d{1,5})")
_FORMS = "give HOST:PORT with an IP address or localhost, unix:PATH, or fd:NUMBER"


class Address(msgspec.Struct, frozen=True):
    """One of the three: a host and a port, a path, or a descriptor."""

    text: str
    """As it was given."""
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1


def parse_address(text: str) -> Address:
    """Return the address that a text stands for: `127.0.0.1:9464`, `[::1]:9464`, `unix:PATH`, `fd:3`.

    A port 0 is any that is free. Raises `ConfigError`.
    """
    shown = escaped(text)
    kind, _, rest = text.partition(":")
    if kind == "unix":
        if not rest or "\0" in rest or len(os.fsencode(rest)) > _LONGEST:
            raise ConfigError(f"{shown}: a unix socket needs a path of 1 to {_LONGEST} bytes")
        return Address(text, path=rest)
    if kind == "fd":
        if not rest.isdecimal() or len(rest) > 9:
            raise ConfigError(f"{shown}: the number of a descriptor follows after `fd:`, as in fd:3")
        return Address(text, fd=int(rest))
    match = _TCP.fullmatch(text)
    if match is None:
        raise ConfigError(f"{shown!r} is no address: {_FORMS}, for example 127.0.0.1:9464")
    host, port = match["six"] if match["six"] is not None else match["host"], int(match["port"])
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ConfigError(f"{shown}: {escaped(host)!r} is no IP address: {_FORMS}") from None
    if port > 65535:
        raise ConfigError(f"{shown}: a port is at most 65535")
    return Address(text, host=str(address), port=port)
