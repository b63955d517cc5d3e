"""A deployment whose app does what a test tells it: the test's side of `obedient.py`."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import uuid
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs

from tests.command import Command, open_command

__all__ = ["ObedientRun", "open_pipe"]

_PRINTED = re.compile(r"\b(heard|sent|overflow|opened|ready|paused) (\d)(?: (\d+))?")


@attrs.define(kw_only=True)
class ObedientRun(ABC):
    """Such a deployment, and its app's view of every number."""

    pipe: Path
    levels: Sequence[int]
    """The places of its channels, the same each way."""
    heard: defaultdict[int, list[int]] = attrs.field(factory=lambda: defaultdict(list))
    """What the app has heard, on each channel."""
    told: set[tuple[str, int, int]] = attrs.field(factory=set)
    """What else it has printed."""
    counts: Counter[str] = attrs.field(factory=Counter)
    _run: Command | None = None
    _lines: int = 0

    @abstractmethod
    def command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return the arguments that run it, and variables of the environment."""

    @property
    def run(self) -> Command:
        assert self._run is not None
        return self._run

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Command]:
        """A run of it, which is connected, and has its readers, when the block begins."""
        arguments, env = self.command()
        async with open_command(*arguments, env=dict(env)) as self._run:
            self._lines = 0
            before = self.counts["opened"]
            await self.run.until_event("health-up")
            await self.until(lambda: self.counts["opened"] >= before + len(self.levels))
            yield self.run
            if self.run.process.returncode is None:
                self.run.signal(signal.SIGTERM)
                assert await self.run.wait(15) == 0

    async def until(self, ready: Callable[[], bool], seconds: float = 30) -> None:
        """Wait until this is so, after something that the app has printed."""

        def look() -> bool | None:
            self.look()
            return ready() or None

        await self.run.until(look, f"progress; heard {dict(self.heard)}", seconds)

    def order(self, *words: str | int) -> None:
        with self.pipe.open("ab", buffering=0) as pipe:
            pipe.write(" ".join(map(str, words)).encode() + b"\n")

    def has_sent(self, number: int) -> bool:
        return all(("sent", level, number) in self.told for level in self.levels)

    async def send(self, first: int, end: int, *, until_stored: bool = False, until_written: bool = False) -> None:
        """Have the app send these, and wait until it has; where a store keeps them, until its receipts say: stored; or
        that, and where nothing is acknowledged, until they are written."""
        self.order("write" if until_written else "store" if until_stored else "send", first, end)
        await self.until(partial(self.has_sent, end - 1))

    async def pause(self) -> None:
        """Have the app work off nothing more; each reader takes one message, and holds it."""
        before = self.counts["paused"]
        self.order("pause")
        await self.until(lambda: self.counts["paused"] > before)

    async def hold(self) -> None:
        """Have each reader of the app work at one more message, and never be done with it."""
        before = self.counts["paused"]
        self.order("hold")
        await self.until(lambda: self.counts["paused"] > before)

    async def until_app_heard(self, number: int, levels: Iterable[int] | None = None) -> None:
        wanted = self.levels if levels is None else list(levels)
        await self.until(lambda: all(number in self.heard[level] for level in wanted))

    async def until_connected_again(self, since: int) -> None:
        """Wait for a connection that was logged after so many lines."""
        await self.run.until(
            lambda: any(entry.get("event") == "connected" for entry in self.run.log[since:]) or None, "connection", 30
        )

    def look(self) -> None:
        """Take note of what the app has printed."""
        output = self.run.output
        for line in output[self._lines :]:
            if found := _PRINTED.search(line):
                what, level, number = found.groups()
                self.counts[what] += 1
                if what == "heard":
                    self.heard[int(level)].append(int(number))
                elif number is not None:
                    self.told.add((what, int(level), int(number)))
        self._lines = len(output)


@contextlib.contextmanager
def open_pipe(folder: Path) -> Iterator[Path]:
    """A pipe for orders, which outlive whoever is to read them."""
    pipe = folder / f"orders-{uuid.uuid4().hex[:8]}"
    os.mkfifo(pipe)
    keep = os.open(pipe, os.O_RDWR)
    try:
        yield pipe
    finally:
        os.close(keep)
