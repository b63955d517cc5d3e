"""Lines of JSON through a unix socket: the app under test reports to its observer, which gives it orders."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from typing import TypeAlias

import msgspec
import trio

from taktora_trio.processes.lines import read_lines

__all__ = ["OBSERVER_VARIABLE", "Health", "Hello", "Line", "Order", "Teller", "Tick", "open_teller"]

OBSERVER_VARIABLE = "TAKTORA_CHAOS_OBSERVER"
"""The environment variable with the path of the observer's socket. Without it nothing is told."""
_BUFFER_LIMIT = 1 << 20  # bytes kept for an observer that does not listen


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The first line: the process, and the series in which it counts its messages."""

    pid: int
    series: str


class Tick(msgspec.Struct, frozen=True, tag=True):
    """The app's loop is alive."""

    at: float
    """Seconds of the system's monotonic clock, which all processes share."""
    sent: int
    """The number that was sent last, 0 before the first."""
    echoed: int
    """The number that came back last."""
    failure: str
    """The kind of failure that is known by now, while health is `Down`."""


class Health(msgspec.Struct, frozen=True, tag=True):
    """One `HealthEvent`, its states as text."""

    at: float
    before: str
    after: str
    cause: str


Line: TypeAlias = Hello | Tick | Health


class Order(msgspec.Struct, frozen=True):
    """An order of the observer to the app."""

    flood: bool
    """Send as fast as it goes, instead of at the usual pace."""


class Teller:
    """The app's end. It never waits: the app under test must not depend on who watches it."""

    def __init__(self, connection: socket.socket | None) -> None:
        self._connection = connection
        self._encode = msgspec.json.Encoder().encode
        self._waiting = bytearray()

    def tell(self, line: Line) -> None:
        """Send a line, or keep it for the next call; what an observer leaves lying beyond a limit is forgotten."""
        if self._connection is None:
            return
        self._waiting += self._encode(line) + b"\n"
        try:
            del self._waiting[: self._connection.send(self._waiting)]
        except BlockingIOError:
            if len(self._waiting) > _BUFFER_LIMIT:
                self._waiting.clear()
        except OSError:  # the observer is gone
            self._waiting.clear()

    async def orders(self) -> AsyncIterator[Order]:
        """Yield the orders of the observer, as long as it is there."""
        if self._connection is None:
            return
        with self._connection.dup() as reading:
            async with trio.SocketStream(trio.socket.from_stdlib_socket(reading)) as stream:
                async for line in read_lines(stream, unfinished=False):
                    yield msgspec.json.decode(line, type=Order)


@contextlib.contextmanager
def open_teller() -> Iterator[Teller]:
    """Connect to the observer that the environment names, if it names one."""
    path = os.environ.get(OBSERVER_VARIABLE)
    if path is None:
        yield Teller(None)
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        connection.setblocking(False)
        yield Teller(connection)
