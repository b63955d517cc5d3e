"""The ten headline figures, in four suites. A block of a suite starts both trees anew and measures them by turns.

A figure of a block is a cost: seconds, bytes, or seconds a message; so that more is worse, and a ratio has one meaning.
Within a block the order is this, other, other, this, so that a machine that becomes slower favours neither.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import statistics
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import attrs
import msgspec
import psutil
import trio

from benchmarks.children import Tree, halves_of, open_python
from benchmarks.contest import Contestant, Entry, open_contest
from benchmarks.gate.trees import Trees
from benchmarks.mosquitto import open_mosquitto
from benchmarks.recovery_app import SOCKET_VARIABLE, Line, Seen, Ticks
from benchmarks.report import percentile
from taktora_trio.processes.lines import read_lines

__all__ = ["SUITES", "Block", "Headline", "Suite"]

Unit = Literal["msg/s", "us", "ms", "s", "MB"]
Block = Mapping[str, tuple[float, float]]
"""The costs of this tree and of the other, by the name of the figure."""

_BY_TURNS = (0, 1, 1, 0)
_WARM_UP, _SECONDS, _TRIPS = 2_000, 0.3, 300
_CHANNELS = 100
_POLICY = "initial=0.001,maximum=0.001,factor=1,jitter=0,intensity=1000000"
_SETTLE, _TICKING = 0.5, 5.0  # seconds
_KILLS = 6  # of each tree in a block
_REST = (0.05, 0.25)  # seconds from Up to the next kill, at random, so that no kill keeps time with the ticks
_TIMEOUT, _LIMIT = 30.0, 300


@attrs.frozen
class Headline:
    """A figure, as people read it."""

    name: str
    unit: Unit
    scale: float
    """The figure is the cost times this; of a rate, this by the cost."""
    tolerance: float = 0.05
    """How much worse it may be, as a share."""

    def show(self, cost: float) -> str:
        value = self.scale / cost if self.unit == "msg/s" else self.scale * cost
        return f"{value:,.0f} {self.unit}" if value >= 1000 else f"{value:.3g} {self.unit}"


class Suite(ABC):
    """Figures that are measured together."""

    headlines: ClassVar[Sequence[Headline]]

    @abstractmethod
    async def block(self, trees: Trees, turn: int) -> Block:
        """Start both, `turn` deciding which is the first, and measure them."""


class Traffic(Suite):
    """Messages of 100 bytes from the app to the broker in the split shape, with all options as they come."""

    headlines = (
        Headline("QoS 0, split, window 64", "msg/s", 1),
        Headline("QoS 1, split, window 64", "msg/s", 1),
        Headline("CPU of app and gateway a message, QoS 1", "us", 1e6),
        Headline("round trip, QoS 1, median", "us", 1e6),
    )

    async def block(self, trees: Trees, turn: int) -> Block:
        at_0, at_1, cpu, trip = (it.name for it in self.headlines)
        costs: dict[str, tuple[list[float], list[float]]] = {it.name: ([], []) for it in self.headlines}
        async with open_contest() as contest, contextlib.AsyncExitStack() as stack:
            ones: dict[int, Contestant] = {}
            for which in _first(turn):
                tree = (trees.this, trees.other)[which]
                ones[which] = await stack.enter_async_context(contest.open(_entry(which, session="native"), tree))
            counts = []
            for qos in (0, 1):
                rates = [(await one.flood(qos, _WARM_UP)).rate for one in ones.values()]
                counts.append(max(int(statistics.mean(rates) * _SECONDS), 1))
            for which in (*_first(turn), *reversed(_first(turn))) * 2:
                one = ones[which]
                costs[at_0][which].append(1 / (await one.flood(0, counts[0])).rate)
                flooded = await one.flood(1, counts[1])
                costs[at_1][which].append(1 / flooded.rate)
                costs[cpu][which].append((flooded.cpu["app"] + flooded.cpu["gateway"]) / 1e6)
                costs[trip][which].append(statistics.median(await one.trips(_TRIPS)) / 1e6)
        return _medians(costs)


class Starting(Suite):
    """From the command to an app that has all its channels open and sees its connector up, split."""

    headlines = (Headline(f"start with {_CHANNELS} channels", "s", 1),)

    async def block(self, trees: Trees, turn: int) -> Block:
        costs: tuple[list[float], list[float]] = ([], [])
        async with open_contest() as contest:
            for which in _first(turn):
                tree = (trees.this, trees.other)[which]
                entry = _entry(which, session="native", channels=_CHANNELS, qos=(1,))
                began = time.monotonic()
                async with contest.open(entry, tree):
                    costs[which].append(time.monotonic() - began)
        return _medians({self.headlines[0].name: costs})


class Faring(Suite):
    """An app that ticks, at rest and while its gateway is killed, with a fresh process for each incarnation."""

    headlines = (
        Headline("killed to Down, median", "ms", 1e3, 0.1),
        Headline("Down to Up, fresh, median", "ms", 1e3),
        Headline("resident, the three processes", "MB", 1e-6),
        Headline("10 ms tick, lateness, p99", "ms", 1e3, 0.25),
    )
    options: ClassVar[Sequence[str]] = ()

    async def block(self, trees: Trees, turn: int) -> Block:
        costs = await _break(trees, turn, self.options, _TICKING)
        return dict(zip((it.name for it in self.headlines), costs, strict=True))


class Warm(Suite):
    """The same with `--warm`, of which only the return is compared: nothing else is other."""

    headlines = (Headline("Down to Up, --warm, median", "ms", 1e3),)

    async def block(self, trees: Trees, turn: int) -> Block:
        return {self.headlines[0].name: (await _break(trees, turn, ["--warm"], 0))[1]}


SUITES: Sequence[Suite] = (Traffic(), Starting(), Faring(), Warm())


def _first(turn: int) -> tuple[int, int]:
    return (1, 0) if turn % 2 else (0, 1)


def _entry(which: int, **options: object) -> Entry:
    return Entry(f"tree-{'ab'[which]}-{os.getpid()}", "through_gateway", "split", options)


def _medians(costs: Mapping[str, tuple[list[float], list[float]]]) -> Block:
    return {name: (statistics.median(ours), statistics.median(theirs)) for name, (ours, theirs) in costs.items()}


async def _break(trees: Trees, turn: int, options: Sequence[str], ticking: float) -> list[tuple[float, float]]:
    """Return the costs of both of: noticing, returning, memory, ticks; the last two only if there is time for ticks."""
    async with open_mosquitto() as port, contextlib.AsyncExitStack() as stack:
        ones: dict[int, _Subject] = {}
        for which in _first(turn):
            tree = (trees.this, trees.other)[which]
            ones[which] = await stack.enter_async_context(_open_subject(tree, which, port, options))
        costs: list[tuple[float, float]] = []
        if ticking:
            await trio.sleep(_SETTLE)
            costs.append((ones[0].resident(), ones[1].resident()))
            for one in ones.values():
                one.ticks.clear()
            await trio.sleep(ticking)  # both tick at the same time, so that they share whatever disturbs them
            costs.append((percentile(ones[0].ticks, 0.99), percentile(ones[1].ticks, 0.99)))
        for one in ones.values():
            await one.kill()  # the first warms up
        times: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
        for which in (*_first(turn), *reversed(_first(turn))) * (_KILLS // 2):
            await trio.sleep(random.uniform(*_REST))
            times[which].append(await ones[which].kill())
    noticing, returning = ([[it[at] for it in times[which]] for which in (0, 1)] for at in (0, 1))
    pairs = [(statistics.median(ours), statistics.median(theirs)) for ours, theirs in (noticing, returning)]
    return [*pairs, *costs]


class _Subject:
    """A deployment that runs; its app tells what it sees, and how late it ticks."""

    def __init__(self, supervisor: int, holder: trio.Process) -> None:
        self.ticks: list[float] = []
        """The lateness of each, in seconds."""
        self._supervisor = supervisor
        self._holder = holder
        self._send, self._seen = trio.open_memory_channel[Seen](math.inf)

    async def next_event(self, state: str) -> Seen:
        with trio.fail_after(_TIMEOUT):
            async for seen in self._seen:
                if seen.state == state:
                    return seen
        raise RuntimeError("the app has ended")

    async def kill(self) -> tuple[float, float]:
        """Kill the gateway, which must be up: seconds from then to `Down`, and from there to `Up`."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        await self._holder.stdin.send_all(b"\n")
        pid = int(await self._holder.stdout.receive_some())
        if not pid:
            raise RuntimeError("a gateway that is up holds its role")
        killed = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        down = await self.next_event("Down")
        up = await self.next_event("Up")
        return (down.at - killed) / 1e9, (up.at - down.at) / 1e9

    def resident(self) -> float:
        """Return what supervisor, app and gateway have resident together, in bytes."""
        pids = [self._supervisor, *halves_of(self._supervisor).values()]
        return float(sum(psutil.Process(pid).memory_info().rss for pid in pids))

    async def hear(self, stream: trio.SocketStream) -> None:
        decode = msgspec.json.Decoder(Line).decode
        async for text in read_lines(stream, unfinished=False):
            line: Line = decode(text)
            if isinstance(line, Ticks):
                self.ticks += [lateness / 1e9 for lateness in line.lateness]
            else:
                self._send.send_nowait(line)


@contextlib.asynccontextmanager
async def _open_subject(tree: Tree, which: int, port: int, options: Sequence[str]) -> AsyncIterator[_Subject]:
    """Start the deployment, and yield it when it is up."""
    domain = f"tree-{'ab'[which]}-{os.getpid()}"
    run = ["taktora_trio", "run", "benchmarks.recovery_app:deployment", "--mode", "split", "--domain", domain]
    run += ["--broker", f"mqtt://127.0.0.1:{port}", "--gateway-policy", _POLICY, "--for", str(_LIMIT), *options]
    with tempfile.TemporaryDirectory() as folder, trio.socket.socket(trio.socket.AF_UNIX) as listener:
        path = str(Path(folder, "app"))
        await listener.bind(path)
        listener.listen()
        environment = {**os.environ, SOCKET_VARIABLE: path}
        pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
        async with (
            open_python("benchmarks.gate.holder", domain, stdin=pipe, stdout=pipe, tree=tree) as holder,
            open_python(*run, stdout=quiet, stderr=quiet, env=environment, tree=tree) as process,
        ):
            with trio.fail_after(_TIMEOUT):
                connection, _ = await listener.accept()
            async with trio.SocketStream(connection) as stream, trio.open_nursery() as nursery:
                subject = _Subject(process.pid, holder)
                nursery.start_soon(subject.hear, stream)
                await subject.next_event("Up")
                yield subject
                nursery.cancel_scope.cancel()
