"""Times of the split shape: until it notices that its gateway is gone, until it has it back, and the app's own delay.

python -m benchmarks.recovery [--quick] [--json FILE]

The gateway of a real deployment (`taktora-trio run --mode split`, the app of `recovery_app.py`, mosquitto) is killed by
SIGKILL again and again, and stopped by SIGSTOP; all of it with a fresh process for each incarnation, and then with
`--warm`. Every time is of the system's monotonic clock: whoever kills notes it right before the signal, the app when it
has received the health event. The backoff is 1 ms, which the times include.

The kernel takes a while to end a process. How long, a thread of ours finds out at each kill: it sends the signal, and
waits for a pidfd of the same process. What comes on top of that is ours.

In each round the gateway is killed again and again for ten seconds, and left alone for as long. A round has a thousand
ticks of the app on each side, so that its 99.9th percentile is its second worst; the median over the rounds is what is
compared, since single ticks wait for other programs of the machine, too.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path

import attrs
import msgspec
import trio

if not __package__:  # started as a file: then this folder is where imports are looked for, not the project's
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.children import open_python
from benchmarks.mosquitto import find_mosquitto, open_mosquitto
from benchmarks.recovery_app import SOCKET_VARIABLE, Line, Seen, Ticks
from benchmarks.report import Figure, percentile, report_json, table
from taktora_trio.processes.lines import read_lines
from taktora_trio.transport.domain import Domain

__all__ = ["main", "measure_recovery"]

_WATCHDOG = 1.0  # seconds
_POLICY = f"initial=0.001,maximum=0.001,factor=1,jitter=0,intensity=1000000,watchdog={_WATCHDOG:g}"
_REST = (0.05, 0.35)  # seconds from Up to the next kill, at random, so that no kill keeps time with the ticks
_SETTLE = 0.3  # seconds between the phases, in which a tick counts for neither
_STILL = 0.01  # seconds; more than it takes until `Down`
_TIMEOUT, _LIMIT = 20.0, 600


@attrs.define
class _Times:
    """The measurements, in ms; ticks by how late they were."""

    to_end: list[float] = attrs.field(factory=list)
    """SIGKILL to the end of the process, by its pidfd."""
    to_down: list[float] = attrs.field(factory=list)
    """SIGKILL to `Down` at the app."""
    to_up: list[float] = attrs.field(factory=list)
    """`Down` to `Up` at the app."""
    to_restart: list[float] = attrs.field(factory=list)
    """SIGSTOP to the start of the next incarnation."""
    rounds: list[_Round] = attrs.field(factory=list)


@attrs.frozen
class _Round:
    """The ticks of the app in one round."""

    quiet: list[float]
    killing: list[float]

    @property
    def rise(self) -> float:
        """Return by how much the p99.9 rises when the gateway is killed."""
        return percentile(self.killing, 0.999) - percentile(self.quiet, 0.999)


async def measure_recovery(rounds: int, seconds: float, hangs: int) -> list[Figure]:
    """Measure so many rounds of two phases of `seconds`, and hangs; with fresh processes and then with `--warm`."""
    fresh = await _measure(rounds, seconds, hangs, "fresh")
    warm = await _measure(rounds, seconds, hangs, "warm", "--warm")
    return [
        *_noticing(fresh, "fresh"),
        *_noticing(warm, "warm"),
        _returning(fresh, "fresh process", 400),
        _returning(warm, "--warm", 60),
        _hanging(fresh, "fresh"),
        _hanging(warm, "warm"),
        _ticking(fresh, "fresh"),
        _ticking(warm, "warm"),
    ]


def _noticing(times: _Times, name: str) -> list[Figure]:
    ours = [down - end for down, end in zip(times.to_down, times.to_end, strict=True)]
    beside = f"the kernel {_spread(times.to_end)}; all {_spread(times.to_down)}"
    return [
        _limit(f"gateway ended to Down at the app, {name}, median", statistics.median(ours), 1, beside),
        _limit(
            f"gateway killed to Down at the app, {name}, worst",
            max(times.to_down),
            50,
            f"of {len(times.to_down)} kills; from its end on {_spread(ours)}",
        ),
    ]


def _returning(times: _Times, name: str, target: float) -> Figure:
    return _limit(f"Down to Up, {name}, median", statistics.median(times.to_up), target, _spread(times.to_up))


def _hanging(times: _Times, name: str) -> Figure:
    what = f"gateway stopped to its restart, watchdog {_WATCHDOG:g} s, {name}, worst"
    beside = f"median {statistics.median(times.to_restart):.0f} ms, of {len(times.to_restart)} hangs"
    return _limit(what, max(times.to_restart), _WATCHDOG * 1e3 * 1.1, beside)


def _ticking(times: _Times, name: str) -> Figure:
    killing = [tick for one in times.rounds for tick in one.killing]
    quiet = [tick for one in times.rounds for tick in one.quiet]
    beside = ", ".join(
        f"{label} {percentile(killing, share):.2f} / {percentile(quiet, share):.2f}"
        for label, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("worst", 1))
    )
    rises = sorted(one.rise for one in times.rounds)
    rounds = f"rounds {', '.join(f'{rise:.2f}' for rise in rises)}"
    counts = f"{len(killing):,} / {len(quiet):,} ticks"
    what = f"app's 10 ms tick, p99.9 while its gateway is killed - without faults, {name}, median of rounds"
    return _limit(what, statistics.median(rises), 1, f"{rounds}; {beside} ms of all {counts}")


def _limit(what: str, milliseconds: float, target: float, beside: str) -> Figure:
    return Figure(what=what, measured=milliseconds, target=target, unit="ms", at_most=True, beside=beside)


def _spread(times: Sequence[float]) -> str:
    median, p99 = (percentile(times, share) for share in (0.5, 0.99))
    return f"{median:.2f} (best {min(times):.2f}, p99 {p99:.2f}, worst {max(times):.2f}) ms of {len(times)}"


class _Subject:
    """The running deployment, with the reports of its app and its supervisor."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._send_seen, self._seen = trio.open_memory_channel[Seen](math.inf)
        self._send_started, self._started = trio.open_memory_channel[float](math.inf)
        self._ticks: list[tuple[int, int]] = []

    async def next_event(self, state: str) -> Seen:
        """Return the next change that leads to this state."""
        with trio.fail_after(_TIMEOUT):
            async for seen in self._seen:
                if seen.state == state:
                    return seen
        raise RuntimeError("the app has ended")

    async def kill(self) -> tuple[float, float, float]:
        """Kill the gateway, which must be up: milliseconds to its end and to `Down`, and from there to `Up`."""
        killed, ended = await trio.to_thread.run_sync(_kill, self._gateway())
        down = await self.next_event("Down")
        up = await self.next_event("Up")
        return (ended - killed) / 1e6, (down.at - killed) / 1e6, (up.at - down.at) / 1e6

    async def hang(self) -> float:
        """Stop the gateway, which must be up, by SIGSTOP: milliseconds until its successor was started."""
        with contextlib.suppress(trio.WouldBlock):
            while True:
                self._started.receive_nowait()
        pid = self._gateway()
        stopped = time.time()  # the log's clock
        os.kill(pid, signal.SIGSTOP)
        with trio.fail_after(_TIMEOUT):
            restarted = await self._started.receive()
        await self.next_event("Up")
        return (restarted - stopped) * 1e3

    def ticks(self, begin: int, end: int) -> list[float]:
        """Return the lateness of each tick in that time, in ms."""
        return [lateness / 1e6 for at, lateness in self._ticks if begin <= at < end]

    def _gateway(self) -> int:
        pid = self._domain.holder("gateway")
        assert pid is not None, "a gateway that is up holds its role"
        return pid

    async def hear_app(self, stream: trio.SocketStream) -> None:
        decode = msgspec.json.Decoder(Line).decode
        async for text in read_lines(stream, unfinished=False):
            line: Line = decode(text)
            if isinstance(line, Ticks):
                self._ticks += zip(line.at, line.lateness, strict=True)
            else:
                self._send_seen.send_nowait(line)

    async def read_log(self, stream: trio.abc.ReceiveStream) -> None:
        async for line in read_lines(stream, unfinished=False):
            entry = msgspec.json.decode(line)
            if entry["message"].startswith("gateway: started"):
                self._send_started.send_nowait(datetime.fromisoformat(entry["time"]).timestamp())


def _kill(pid: int) -> tuple[int, int]:
    """Kill a process: the times of the signal and of its end. In a thread, which nothing else keeps from noticing.

    It then keeps still, for what it wakes would take a core from those whose time is measured.
    """
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        killed = time.monotonic_ns()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poll.poll(_TIMEOUT * 1000)
        ended = time.monotonic_ns()
        time.sleep(_STILL)
        return killed, ended
    finally:
        os.close(pidfd)


@contextlib.asynccontextmanager
async def _forgotten(domain: Domain) -> AsyncIterator[None]:
    """Remove at the end what a next run would want, for there is none."""
    try:
        yield
    finally:
        domain.forget()


@contextlib.asynccontextmanager
async def _open_subject(port: int, name: str, *more: str) -> AsyncIterator[_Subject]:
    """Start the deployment at this broker, and yield it once it is up; `more` are options of `run`."""
    domain = Domain(f"benchmark-recovery-{name}-{os.getpid()}")
    subject = _Subject(domain)
    run = ["taktora_trio", "run", "benchmarks.recovery_app:deployment", "--mode", "split", "--domain", domain.name]
    options = ["--broker", f"mqtt://127.0.0.1:{port}", "--gateway-policy", _POLICY, "--log", "json"]
    limit = ["--for", str(_LIMIT)]  # it ends by itself should this process be killed
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "app"))
        with trio.socket.socket(trio.socket.AF_UNIX) as listener:
            await listener.bind(path)
            listener.listen()
            # Bytecode is cached, as it is for an installed package.
            environment = {**os.environ, SOCKET_VARIABLE: path, "PYTHONPYCACHEPREFIX": str(Path(folder, "bytecode"))}
            environment.pop("PYTHONDONTWRITEBYTECODE", None)
            async with (
                _forgotten(domain),
                open_python(*run, *options, *limit, *more, stderr=subprocess.PIPE, env=environment) as process,
                trio.open_nursery() as nursery,
            ):
                assert process.stderr is not None
                nursery.start_soon(subject.read_log, process.stderr)
                with trio.fail_after(_TIMEOUT):
                    connection, _ = await listener.accept()
                async with trio.SocketStream(connection) as stream:
                    nursery.start_soon(subject.hear_app, stream)
                    await subject.next_event("Up")
                    yield subject
                    nursery.cancel_scope.cancel()


async def _measure(rounds: int, seconds: float, hangs: int, name: str, *more: str) -> _Times:
    times = _Times()
    async with open_mosquitto() as port, _open_subject(port, name, *more) as subject:
        await subject.kill()  # the first one warms up
        phases: list[tuple[int, int, int]] = []
        for _ in range(rounds):
            await trio.sleep(_SETTLE)
            quiet = time.monotonic_ns()
            await trio.sleep(seconds)
            killing = time.monotonic_ns()
            ends = trio.current_time() + seconds
            while trio.current_time() < ends:
                await trio.sleep(random.uniform(*_REST))
                to_end, to_down, to_up = await subject.kill()
                times.to_end.append(to_end)
                times.to_down.append(to_down)
                times.to_up.append(to_up)
            phases.append((quiet, killing, time.monotonic_ns()))
        for _ in range(hangs):
            await trio.sleep(random.uniform(0, _WATCHDOG / 2))  # anywhere between two signs of life
            times.to_restart.append(await subject.hang())
        for quiet, killing, end in phases:
            times.rounds.append(_Round(subject.ticks(quiet, killing), subject.ticks(killing, end)))
    return times


async def _main(rounds: int, seconds: float, hangs: int) -> list[Figure]:
    find_mosquitto()
    return await measure_recovery(rounds, seconds, hangs)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="half a minute instead of eight; its p99.9 says little")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    figures = trio.run(_main, *(2, 3.0, 2) if options.quick else (10, 10.0, 10))
    print(table(figures))
    if options.json is not None:
        options.json.write_bytes(report_json(figures) + b"\n")


if __name__ == "__main__":
    main()
