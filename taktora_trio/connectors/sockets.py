"""Sockets to the other side: the addresses behind a name, a connection to one of them, and why there is none."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import trio

__all__ = ["SocketAddress", "open_any", "resolve_host", "why"]

_STAGGER = 0.25  # seconds until the next address is tried beside one that has not answered (RFC 8305, section 5)


class SocketAddress(msgspec.Struct, frozen=True):
    """One address of the other side."""

    family: int
    address: Any
    """As `socket.connect` takes it."""

    def __str__(self) -> str:
        return str(self.address if isinstance(self.address, str) else self.address[0])


async def resolve_host(host: str, port: int) -> list[SocketAddress]:
    """Return all addresses behind the name, in the resolver's order. Raises `OSError`."""
    # As bytes where it can be: for a text Python imports a codec, with 0.1 MB of tables.
    found = await trio.socket.getaddrinfo(host.encode() if host.isascii() else host, port, type=socket.SOCK_STREAM)
    return [SocketAddress(family, where) for family, _, _, _, where in found]


async def open_any(endpoints: Sequence[SocketAddress]) -> tuple[SocketAddress, trio.SocketStream]:
    """Connect to the first that answers. Each has a head start of a quarter of a second before the next.

    Raises the `OSError` of the first one if none answers.
    """
    opened: list[tuple[SocketAddress, trio.SocketStream]] = []
    errors: list[tuple[int, OSError]] = []

    async def connect(position: int, endpoint: SocketAddress, decided: trio.Event) -> None:
        try:
            sock = trio.socket.socket(endpoint.family, socket.SOCK_STREAM)
            try:
                await sock.connect(endpoint.address)
                opened.append((endpoint, trio.SocketStream(sock)))  # which does without Nagle's algorithm
            except BaseException:
                sock.close()
                raise
            nursery.cancel_scope.cancel()
        except OSError as exc:
            errors.append((position, exc))
        decided.set()

    try:
        async with trio.open_nursery() as nursery:
            for position, endpoint in enumerate(endpoints):
                decided = trio.Event()
                nursery.start_soon(connect, position, endpoint, decided)
                with trio.move_on_after(_STAGGER):
                    await decided.wait()
    except BaseException:
        for _, stream in opened:
            await trio.aclose_forcefully(stream)
        raise
    for _, late in opened[1:]:  # it answered in the same moment
        await trio.aclose_forcefully(late)
    if not opened:
        raise min(errors, key=lambda error: error[0])[1]
    return opened[0]


def why(exc: BaseException) -> str:
    """Return in a few words why a connection failed or broke."""
    cause: BaseException = exc.__cause__ or exc
    if _is_of_tls(cause):
        return f"TLS failed: {cause}; check the CA file and the other side's certificate"
    if isinstance(cause, OSError):
        number = cause.errno or 0
        return os.strerror(number) if number > 0 else cause.strerror or str(cause)
    return str(cause) or type(cause).__name__


def _is_of_tls(exc: BaseException) -> bool:
    tls = sys.modules.get("ssl")  # where nobody has imported it there was no TLS
    return tls is not None and isinstance(exc, tls.SSLError)
