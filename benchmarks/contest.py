"""Contestants that publish through one broker, in turn: how many a second come out of it, how long a round trip takes,
and how much CPU time each process spends on a message.

Around them: mosquitto, the independent subscribers of `counter.py` and `arrivals.py`, the other side of `echo.py`; each
a process.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, TypeVarTuple, Unpack

import attrs
import msgspec
import trio

from benchmarks import arrivals, counter, message
from benchmarks.children import HERE, ROOT, Tree, halves_of, open_python
from benchmarks.peers import control
from benchmarks.peers.control import (
    Came,
    Done,
    Flood,
    Hello,
    Inflow,
    Paced,
    QoS,
    Sends,
    Sent,
    Setting,
    Ticks,
    Times,
    Trips,
)
from taktora_trio.processes.lines import read_lines
from taktora_trio.testing.mqtt.mosquitto import open_mosquitto
from taktora_trio.testing.server import Server
from taktora_trio.transport.domain import Domain

__all__ = [
    "MQTT",
    "Contest",
    "Contestant",
    "Entry",
    "Flooded",
    "Kept",
    "Network",
    "cpu_time",
    "open_contest",
    "open_ready",
    "run_contest",
]

_TIMEOUT = 60.0  # seconds for one order
_START_OF_ONE = 0.15  # more seconds for each channel until a deployment is connected
_AHEAD = 50_000_000  # ns from an order to the first message of its schedule
_SETTLE = 0.05  # seconds in which the last acknowledgements are dealt with, of which nobody tells us
_LIMIT = 3000  # seconds after which a deployment ends by itself, should this process be killed


@attrs.frozen
class Entry:
    """A client that takes part."""

    name: str
    """Unique; letters, digits and dashes."""
    module: str
    """Its module in `benchmarks.peers`."""
    mode: Literal["in-process", "split"] | None = None
    """The shape, if it runs through a gateway."""
    options: Mapping[str, object] = attrs.field(factory=dict)
    """Fields of `control.Setting`."""
    python: str | None = None
    """Another interpreter than the tree's, for a library that needs an environment of its own."""


@attrs.frozen(kw_only=True)
class Network:
    """What is around contestants of one protocol: the server, and who is at its other side."""

    protocol: Literal["mqtt", "zenoh"]
    open_server: Callable[[Path], contextlib.AbstractAsyncContextManager[Server]]
    package: str
    """Where `counter`, `echo` and `source` are."""
    arrivals: str | None
    """The subscriber of what is sent on a schedule, if there is one."""


def _open_broker(folder: Path) -> contextlib.AbstractAsyncContextManager[Server]:
    return open_mosquitto(folder, ["set_tcp_nodelay true"])


MQTT = Network(protocol="mqtt", open_server=_open_broker, package="benchmarks", arrivals="benchmarks.arrivals")


@attrs.frozen
class Flooded:
    """The outcome of an order."""

    rate: float
    """Messages a second, from the order to the arrival of the last at the independent subscriber, or of its receipt."""
    cpu: Mapping[str, float]
    """User and system time in us for each message, by process (`app`, `gateway`, `broker`)."""


@attrs.frozen
class Kept:
    """The outcome of a schedule."""

    asked: float
    """Messages a second."""
    achieved: float
    """Messages a second, from the time of the first by the schedule until the last arrived."""
    count: int
    """The number of messages by the schedule."""
    unsent: int
    """The number of those that the contestant had not come to when its time was over."""
    latencies: Sequence[float]
    """From the time by the schedule to the arrival, in us, of every message; of an unsent one, the time it waited."""
    cpu: Mapping[str, float]
    """User and system time in us for each message that was sent, by process, the supervisor's too."""


class Contestant:
    """A contestant that runs, is connected, and waits for orders."""

    def __init__(
        self,
        told: Setting,
        stream: trio.SocketStream,
        answers: AsyncIterator[bytes],
        pids: Mapping[str, Sequence[int]],
        counted: trio.MemoryReceiveChannel[counter.Counted],
        arrived: trio.MemoryReceiveChannel[arrivals.Arrived | counter.Wrong],
        domain: Domain | None,
        supervisor: int | None,
        network: Network,
    ) -> None:
        self.pids = pids
        """The process ids, by half, and the broker's."""
        self.supervisor = supervisor
        """The process id of the split shape's supervisor, which has no part in a message."""
        self.domain = domain
        """Set if it runs through a gateway."""
        self._setting = told
        self._network = network
        self._stream = stream
        self._answers = answers
        self._counted = counted
        self._arrived = arrived
        self._received = 0
        self._sent = dict.fromkeys(told.qos, 0)
        self._paced = dict.fromkeys(told.qos, 0)

    @property
    def processes(self) -> Mapping[str, Sequence[int]]:
        """The process ids by name, those of `pids` and the supervisor's."""
        return {**self.pids, **({} if self.supervisor is None else {"supervisor": [self.supervisor]})}

    async def flood(self, qos: QoS, count: int, length: int = message.LENGTH) -> Flooded:
        """Have `count` messages sent, on each channel, and wait until all have come out of the broker."""
        order = Flood(qos, self._sent[qos] + 1, count, length)
        self._sent[qos] += count
        due = {self._setting.topic(qos, channel) for channel in range(self._setting.channels)}
        with trio.fail_after(_TIMEOUT):
            before = self._cpu()
            start = end = time.monotonic_ns()
            await self._stream.send_all(control.encode(order))
            while due:
                counted = await self._counted.receive()
                due.remove(counted.topic)
                end = max(end, counted.at)
            await self._answer(Done)
            if self._setting.receipts:
                end = time.monotonic_ns()
            await trio.sleep(_SETTLE)
            after = self._cpu()
        total = count * self._setting.channels
        spent = {name: (after[name] - before[name]) / total * 1e6 for name in self.pids}
        return Flooded(total / (end - start) * 1e9, spent)

    async def pace(self, qos: QoS, rate: float, seconds: float, length: int = message.LENGTH) -> Kept:
        """Have messages sent at a fixed rate, for so long by the schedule, and for half as long after it at most.

        Raises `RuntimeError` if messages are missing, doubled or out of order, and `trio.TooSlowError`; then this
        contestant is of no more use.
        """
        count, interval = max(round(rate * seconds), 1), round(1e9 / rate)
        start = time.monotonic_ns() + _AHEAD
        order = Paced(qos, self._paced[qos] + 1, count, length, start, interval, start + round(seconds * 1.5e9))
        with trio.fail_after(_TIMEOUT + 2 * seconds):
            before = self._cpu()
            sent = await self.keep(order)
            arrived = await self._arrived.receive()
            await trio.sleep(_SETTLE)
            after = self._cpu()
        if isinstance(arrived, counter.Wrong):
            raise RuntimeError(f"message {arrived.number} came where {arrived.expected} was to come")
        self._paced[qos] += sent
        latencies = [ns / 1e3 for ns in arrived.read()]
        if len(latencies) != sent:
            raise RuntimeError(f"of {sent} messages {len(latencies)} arrived")
        latencies += [(order.until - (start + number * interval)) / 1e3 for number in range(sent, count)]
        spent = {name: (after[name] - before[name]) / sent * 1e6 for name in before}
        return Kept(rate, sent / (arrived.at - start) * 1e9, count, count - sent, latencies, spent)

    async def keep(self, order: Paced) -> int:
        """Have a schedule kept, whatever arrives. Return how many were sent."""
        await self._stream.send_all(control.encode(order))
        return (await self._answer(Sent)).count

    async def inflow(self, count: int, length: int = message.LENGTH, qos: QoS = 1) -> Flooded:
        """Have `count` messages come in, on each filter in turn, from a process that sends as fast as it can."""
        with trio.fail_after(_TIMEOUT):
            before = self._cpu()
            await self._stream.send_all(control.encode(Inflow(self._received + count)))
            began = await self._source(count, length, qos)
            came = await self._answer(Came)
            await trio.sleep(_SETTLE)
            after = self._cpu()
        spent = {half: (after[half] - before[half]) / count * 1e6 for half in self.pids}
        return Flooded(count / (came.at - began) * 1e9, spent)

    async def _source(self, count: int, length: int, qos: QoS, rate: int = 0) -> int:
        """Run the process that sends. Return when it began."""
        self._received += count
        numbers = (self._setting.filters, count, length, qos, rate)
        arguments = [str(self._setting.port), self._setting.name, *map(str, numbers)]
        began = await trio.run_process(
            [sys.executable, "-m", f"{self._network.package}.source", *arguments], capture_stdout=True, cwd=ROOT
        )
        return int(began.stdout)

    async def trips(self, count: int, length: int = message.LENGTH, qos: QoS = 1) -> list[float]:
        """Return the times of round trips through broker, echo and broker, in us."""
        with trio.fail_after(_TIMEOUT):
            await self._stream.send_all(control.encode(Trips(count, length, qos)))
            return [ns / 1e3 for ns in (await self._answer(Times)).ns]

    async def sends(self, count: int, length: int = message.LENGTH) -> list[float]:
        """Return the times that calls of `send` take, in us, at 1,000 a second."""
        with trio.fail_after(_TIMEOUT):
            await self._stream.send_all(control.encode(Sends(count, length)))
            return [ns / 1e3 for ns in (await self._answer(Times)).ns]

    async def ticks(self, count: int, qos: QoS, batch: int) -> list[float]:
        """Return how late each of its 10 ms ticks was, in us, while it sends and gets `batch` messages as often."""
        with trio.fail_after(_TIMEOUT):
            async with trio.open_nursery() as nursery:
                if batch:
                    nursery.start_soon(self._source, count * batch, message.LENGTH, qos, 100 * batch)
                await self._stream.send_all(control.encode(Ticks(count, qos, batch)))
                late = await self._answer(Times)
        return [ns / 1e3 for ns in late.ns]

    async def _answer(self, kind: type[control.A]) -> control.A:
        return msgspec.json.decode(await anext(self._answers), type=kind)

    def _cpu(self) -> dict[str, float]:
        return {name: sum(map(cpu_time, pids)) for name, pids in self.processes.items()}


class Contest:
    """The broker and what is around it. `open` brings a contestant to it."""

    def __init__(
        self, port: int, broker_pid: int, listener: trio.SocketListener, path: str, network: Network = MQTT
    ) -> None:
        self.port = port
        self._network = network
        self._broker_pid = broker_pid
        self._listener = listener
        self._path = path
        self._counts: dict[str, trio.MemorySendChannel[counter.Counted]] = {}
        self._arrivals: dict[str, trio.MemorySendChannel[arrivals.Arrived | counter.Wrong]] = {}

    @property
    def broker_pid(self) -> int:
        return self._broker_pid

    @contextlib.asynccontextmanager
    async def open(self, entry: Entry, tree: Tree = HERE, *, quiet: bool = False) -> AsyncIterator[Contestant]:
        """Start it, of that tree, and wait until it is connected. One at a time.

        What it says of its errors is for whoever runs the benchmark, unless it is to be `quiet`.
        """
        protocol = self._network.protocol
        told = Setting(name=entry.name, port=self.port, protocol=protocol, socket=self._path, **entry.options)  # type: ignore[arg-type]
        send, counted = trio.open_memory_channel[counter.Counted](max(told.channels, 1))
        send_arrived, arrived = trio.open_memory_channel[arrivals.Arrived | counter.Wrong](1)
        for qos in told.qos:
            self._arrivals[told.paced_topic(qos)] = send_arrived
            for channel in range(told.channels):
                self._counts[told.topic(qos, channel)] = send
        command, domain, supervisor = [f"benchmarks.peers.{entry.module}"], None, None
        if entry.mode is not None:
            domain = Domain(f"{entry.name}-{self.port}")
            command = ["taktora_trio", "run", f"{command[0]}:deployment", "--mode", entry.mode]
            if protocol == "mqtt":
                command += ["--broker", f"mqtt://127.0.0.1:{self.port}"]
            command += ["--domain", domain.name, "--for", f"{_LIMIT}"]
        log = subprocess.DEVNULL if entry.mode or quiet else None
        async with contextlib.AsyncExitStack() as stack:
            if domain is not None:
                stack.callback(domain.forget)
            process = await stack.enter_async_context(
                open_python(*command, stderr=log, env=told.environment(), tree=_for(entry, tree))
            )
            with trio.fail_after(_TIMEOUT + _START_OF_ONE * (told.channels + told.filters)):
                stream = await self._listener.accept()
            async with stream, contextlib.aclosing(read_lines(stream, unfinished=False)) as answers:
                with trio.fail_after(_TIMEOUT):
                    hello = msgspec.json.decode(await anext(answers), type=Hello)
                pids = {"app": hello.pids, "broker": [self._broker_pid]}
                if entry.mode == "split":
                    supervisor, pids["gateway"] = process.pid, [_gateway_of(process.pid)]
                yield Contestant(told, stream, answers, pids, counted, arrived, domain, supervisor, self._network)

    async def _take_arrivals(self, lines: AsyncIterator[bytes]) -> None:
        async for line in lines:
            told = msgspec.json.decode(line, type=arrivals.Arrived | counter.Wrong)
            self._arrivals[told.topic].send_nowait(told)

    async def _take_counts(self, lines: AsyncIterator[bytes]) -> None:
        async for line in lines:
            told = msgspec.json.decode(line, type=counter.Counted | counter.Wrong)
            if isinstance(told, counter.Wrong):
                raise RuntimeError(f"message {told.number} of {told.topic} came where {told.expected} was to come")
            self._counts[told.topic].send_nowait(told)


@contextlib.asynccontextmanager
async def open_contest(network: Network = MQTT) -> AsyncIterator[Contest]:
    """Start what every contestant needs. TCP_NODELAY is set everywhere, and the broker drops nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "control")
        listening = trio.socket.socket(trio.socket.AF_UNIX)
        await listening.bind(path)
        listening.listen()
        async with (
            trio.SocketListener(listening) as listener,
            network.open_server(Path(folder)) as broker,
            open_ready(f"{network.package}.counter", str(broker.port)) as counts,
            open_ready(f"{network.package}.echo", str(broker.port)),
            _open_arrivals(network, broker.port, folder) as arrived,
            trio.open_nursery() as nursery,
        ):
            contest = Contest(broker.port, broker.pid, listener, path, network)
            nursery.start_soon(contest._take_counts, counts)
            if arrived is not None:
                nursery.start_soon(contest._take_arrivals, arrived)
            nursery.start_soon(_end_at_signal)
            yield contest
            nursery.cancel_scope.cancel()


def _open_arrivals(
    network: Network, port: int, folder: str
) -> contextlib.AbstractAsyncContextManager[AsyncIterator[bytes] | None]:
    if network.arrivals is None:
        return contextlib.nullcontext()
    return open_ready(network.arrivals, str(port), folder)


async def _end_at_signal() -> None:
    """Run; a SIGTERM ends all that was started, too."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            raise SystemExit("ended by SIGTERM")


Ts = TypeVarTuple("Ts")
T = TypeVar("T")


def run_contest(measure: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
    """Run it under trio. What went wrong is said without the dozens of scopes of other contestants around it."""
    try:
        return trio.run(measure, *args)
    except BaseExceptionGroup as group:
        causes = list(_leaves(group))
        for cause in causes:
            traceback.print_exception(cause)
        raise SystemExit("; ".join(map(repr, causes))) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            yield from _leaves(exc)
        else:
            yield exc


@contextlib.asynccontextmanager
async def open_ready(*command: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """Start a Python process, wait until it says that it is ready, and yield the lines that it says after that."""
    async with open_python(*command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        async with contextlib.aclosing(read_lines(process.stdout, unfinished=False)) as lines:
            with trio.fail_after(_TIMEOUT):
                await anext(lines)
            yield lines


def _for(entry: Entry, tree: Tree) -> Tree:
    return tree if entry.python is None else attrs.evolve(tree, python=entry.python)


def _gateway_of(supervisor: int) -> int:
    try:
        return halves_of(supervisor)["gateway"]
    except KeyError:
        raise RuntimeError("the deployment has no gateway process") from None


def cpu_time(pid: int) -> float:
    """Return the user and system time of a process and all its threads, in seconds.

    It is exact to the ns, where /proc/PID/stat ticks in 10 ms. The process's clock (clock_getcpuclockid(3)) is a
    function of its id on Linux.
    """
    return time.clock_gettime((~pid << 3) | 2)
