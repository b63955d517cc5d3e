"""Hears what the app under test tells: that it ticks, how its health changes, how far it has come."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import attrs
import msgspec
import trio
from trio_util import AsyncValue

from taktora_trio.chaos.telemetry import Health, Hello, Line, Order, Tick
from taktora_trio.health import TRANSITIONS
from taktora_trio.processes.lines import read_lines

__all__ = ["Incarnation", "Observer", "open_observer"]

_LEGAL = {(before.__name__, after.__name__) for before, after in TRANSITIONS}


@attrs.define
class Incarnation:
    """One process of the app."""

    pid: int
    series: str
    connection: trio.SocketStream
    tick: Tick | None = None
    """The tick that came last."""
    largest_gap: float = 0.0
    """Seconds between two ticks, since it was asked to look anew."""
    health: str = "Connecting"
    alive: bool = True

    def gap_now(self) -> float:
        """Return the largest gap, with the one that has not ended yet."""
        silence = time.monotonic() - self.tick.at if self.tick and self.alive else 0.0
        return max(self.largest_gap, silence)


class Observer:
    """Keeps what all incarnations of the app have told."""

    def __init__(self) -> None:
        self.app: Incarnation | None = None
        """The incarnation that came last."""
        self.events: list[Health] = []
        """Every health event, in the order in which they were told."""
        self.broken_chains: list[str] = []
        """In words: events that did not go on from the state of the one before, or must not be."""
        self.failures: set[str] = set()
        """The kinds of failure that the app has seen since `clear` was called on this."""
        self.changes = AsyncValue(0)
        """Another value after each line."""

    async def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for something that only changes with what is told. Raises `trio.TooSlowError`."""
        with trio.fail_after(seconds):
            await self.changes.wait_value(lambda _: condition())

    async def order(self, *, flood: bool) -> None:
        """Have the app send as fast as it goes, or no longer. Nothing happens if it has just ended."""
        if self.app is not None:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self.app.connection.send_all(msgspec.json.encode(Order(flood)) + b"\n")

    async def _hear(self, connection: trio.SocketStream) -> None:
        decode = msgspec.json.Decoder(Line).decode
        app: Incarnation | None = None
        async for text in read_lines(connection, unfinished=False):
            line: Line = decode(text)
            if isinstance(line, Hello):
                app = self.app = Incarnation(line.pid, line.series, connection)
            elif app is not None:
                self._take(app, line)
            self.changes.value += 1
        if app is not None:
            app.alive = False

    def _take(self, app: Incarnation, line: Tick | Health) -> None:
        if isinstance(line, Tick):
            if app.tick is not None:
                app.largest_gap = max(app.largest_gap, line.at - app.tick.at)
            app.tick = line
            if line.failure:
                self.failures.add(line.failure)
            return
        if line.before != app.health:
            self.broken_chains.append(f"{line.before} -> {line.after} came after a change to {app.health}")
        if (_state(line.before), _state(line.after)) not in _LEGAL:
            self.broken_chains.append(f"there is no transition {line.before} -> {line.after}")
        app.health = line.after
        self.events.append(line)


def _state(text: str) -> str:
    """Return the name of a state, from its text: `Down (why)` is `Down`."""
    return text.partition(" ")[0]


@contextlib.asynccontextmanager
async def open_observer(path: Path) -> AsyncIterator[Observer]:
    """Listen at a unix socket while the block lasts."""
    observer = Observer()
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        await listening.bind(str(path))
        listening.listen(16)
        async with trio.open_nursery() as nursery:
            listeners = [trio.SocketListener(listening)]
            nursery.start_soon(trio.serve_listeners, observer._hear, listeners)
            yield observer
            nursery.cancel_scope.cancel()
