"""From broker to app: throughput beside peers, the cost of acknowledging when done, and of a slow channel to others.

python -m benchmarks.inbound [--quick] [--only {throughput,cost,slow}] [--contestants WORD ...]

Throughput: `inbound_throughput.py`. For the rest an app in the split shape, with mosquitto as it comes from the package
(20 messages in flight) and with 1,000.

The cost: messages of 100 bytes at QoS 1, as fast as they come; then one at a time, there and back. Acknowledged when
the app is done with them, and on arrival, in turns; a ratio is the median of the rounds' own ratios.

A slow channel: 1 message a second, for each of which the app takes a second, beside 1,000 a second of a channel that
takes no time. The figures are the fast channel's: the messages that came in time, and from publishing to the app's
hands. The broker drops what is beyond its `max_queued_messages`; here it keeps all.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import attrs
import msgspec
import trio

if not __package__:  # started as a file: then this folder is where imports are looked for, not the project's
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.children import halves_of
from benchmarks.contest import cpu_time
from benchmarks.inbound_app import Case, Flooded, Paced
from benchmarks.inbound_throughput import entries, measure_throughput, report
from benchmarks.report import grid, machine, median_of_ratios, percentile
from taktora_trio import MqttOptions
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.connectors.mqtt.sessions.session import Session
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.testing.mqtt.mosquitto import open_mosquitto

__all__ = ["main", "measure_cost", "measure_slow"]

_STOCK, _MORE = 20, 1000
_MARGIN = 200  # messages that the publisher has in flight
_decode_told = msgspec.json.Decoder(Flooded | Paced).decode


class _Outside:
    """Publishes to the app, and hears what it says."""

    def __init__(self, broker: str) -> None:
        self._session: Session
        self._hearing: Session
        self._broker = broker
        self._ids = itertools.cycle(range(1, 60_000))
        self._on_their_way = 0
        self._fewer = trio.Event()
        self._put, self.heard = trio.open_memory_channel[Message](1000)
        self.halves: dict[str, int] = {}
        """The process ids of the app's half and the gateway's."""

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        # Two connections, so that no answer waits for the acknowledgement of what was published before it.
        options = MqttOptions(broker=self._broker)
        async with (
            open_session(options, self._came) as self._hearing,
            open_session(options, self._came) as self._session,
        ):
            await self._hearing.subscribe({"benchmark/told": 1, "benchmark/pong": 1})
            yield

    async def publish(self, topic: str, payload: bytes, qos: int = 1) -> None:
        while self._on_their_way >= _MARGIN:
            self._fewer = trio.Event()
            await self._fewer.wait()
        self._on_their_way += 1
        self._session.publish(Message(topic, payload, qos), next(self._ids), self._done)

    def _done(self, packet_id: int, refusal: str) -> None:
        self._on_their_way -= 1
        self._fewer.set()

    def _came(self, message: Message) -> None:
        self._put.send_nowait(message)
        self._hearing.acknowledge(message)


@contextlib.asynccontextmanager
async def _open(case: Case) -> AsyncIterator[_Outside]:
    """Run the app as a user does, and yield when it reads."""
    outside = _Outside(case.broker)
    environment = {"BENCHMARK_CASE": msgspec.json.encode(case).decode()}
    command = [sys.executable, "-m", "taktora_trio", "run", "benchmarks.inbound_app:deployment", "--mode", "split"]
    domain = f"benchmark-{uuid.uuid4().hex[:12]}"
    async with outside.connected(), trio.open_nursery() as nursery:
        run = partial(
            trio.run_process,
            [*command, "--domain", domain],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        process = await nursery.start(run)
        try:
            with trio.fail_after(30):
                assert (await outside.heard.receive()).payload == b"ready"
            outside.halves = halves_of(process.pid)
            yield outside
        finally:
            process.send_signal(signal.SIGTERM)  # it ends its halves


async def _flood(outside: _Outside, count: int) -> tuple[float, float]:
    """Return the messages per second that the app was given, and the CPU time of both halves, in us for each."""
    before = sum(map(cpu_time, outside.halves.values()))
    for _ in range(count):
        await outside.publish("benchmark/flood", bytes(100))
    await outside.publish("benchmark/flood", b"end")
    told = _decode_told((await outside.heard.receive()).payload)
    assert isinstance(told, Flooded)
    spent = sum(map(cpu_time, outside.halves.values())) - before
    return count / (told.ended - told.began) * 1e9, 1e6 * spent / count


async def _trips(outside: _Outside, count: int) -> list[float]:
    """Return the seconds of each of so many messages there and back, one after the other."""
    trips = []
    for _ in range(count):
        began = time.perf_counter()
        await outside.publish("benchmark/ping", bytes(100))
        await outside.heard.receive()
        trips.append(time.perf_counter() - began)
    return trips


def _lines(in_flight: int) -> list[str]:
    """Return what is configured of the broker. With Nagle's algorithm a round trip would take 40 ms."""
    return [f"max_inflight_messages {in_flight}", "set_tcp_nodelay true"]


@attrs.define
class _Cost:
    rates: list[float] = attrs.field(factory=list)
    cpu: list[float] = attrs.field(factory=list)
    trips: list[float] = attrs.field(factory=list)


async def measure_cost(in_flight: int, rounds: int, count: int) -> dict[str, _Cost]:
    """Measure both ways of acknowledging in turns, with a broker that has so many messages in flight."""
    costs = {"when-done": _Cost(), "on-arrival": _Cost()}
    with tempfile.TemporaryDirectory() as folder:
        async with contextlib.AsyncExitStack() as stack:
            outsides = {}
            for way in costs:  # a broker for each, for they would disturb each other
                broker = await stack.enter_async_context(open_mosquitto(Path(folder), _lines(in_flight)))
                case = Case(broker=f"mqtt://127.0.0.1:{broker.port}", acknowledge=way)  # type: ignore[arg-type]
                outsides[way] = await stack.enter_async_context(_open(case))
            for number in range(rounds + 1):
                for way, cost in costs.items():
                    rate, cpu = await _flood(outsides[way], count)
                    trips = await _trips(outsides[way], count // 50)
                    if number:  # the first is to get warm
                        cost.rates.append(rate)
                        cost.cpu.append(cpu)
                        cost.trips.append(statistics.median(trips))
    return costs


async def measure_slow(case: Case, in_flight: int, seconds: float) -> Paced:
    """Measure the fast channel beside the slow one for so long."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_mosquitto(Path(folder), _lines(in_flight)) as broker:
            case = msgspec.structs.replace(case, broker=f"mqtt://127.0.0.1:{broker.port}")
            async with _open(case) as outside:
                began = trio.current_time()
                for number in range(int(seconds * 100)):
                    await trio.sleep_until(began + number / 100)
                    if number % 100 == 0:
                        await outside.publish("benchmark/slow", b"work", case.slow_qos)
                    for _ in range(10):
                        await outside.publish("benchmark/fast", b"%d" % time.monotonic_ns())
                await outside.publish("benchmark/fast", b"end")
                with trio.move_on_after(seconds):
                    told = _decode_told((await outside.heard.receive()).payload)
                    assert isinstance(told, Paced)
                    return told
                return Paced([], 0)


async def _show_cost(rounds: int, count: int) -> None:
    rows = [("in flight", "acknowledged", "msg/s", "round trip us", "CPU us", "of on arrival: rate", "trip", "CPU")]
    for in_flight in (_STOCK, _MORE):
        costs = await measure_cost(in_flight, rounds, count)
        base = costs["on-arrival"]
        for way, cost in costs.items():
            rate, trip, cpu = (
                median_of_ratios(ours, theirs)
                for ours, theirs in ((cost.rates, base.rates), (cost.trips, base.trips), (cost.cpu, base.cpu))
            )
            rows.append(
                (
                    str(in_flight),
                    way,
                    f"{statistics.median(cost.rates):,.0f}",
                    f"{1e6 * statistics.median(cost.trips):,.0f}",
                    f"{statistics.median(cost.cpu):.1f}",
                    f"{rate:.2f}",
                    f"{trip:.2f}",
                    f"{cpu:.2f}",
                )
            )
    print(grid(rows), flush=True)


async def _show_slow(seconds: float) -> None:
    rows = [("in flight", "MQTT", "slow channel", "fast channel: came in time", "p50 ms", "p99 ms")]
    due = int(seconds * 1000)
    for in_flight, case in [
        (_STOCK, Case()),
        (_MORE, Case()),
        (_STOCK, Case(protocol="5")),
        (_MORE, Case(protocol="5")),
        (_STOCK, Case(slow_qos=2)),
        (_STOCK, Case(slow_acknowledge="on-arrival")),
    ]:
        told = await measure_slow(case, in_flight, seconds)
        late = sorted(told.latencies)
        came = sum(latency < 1e9 for latency in late)
        p50, p99 = (f"{percentile(late, at / 100) / 1e6:,.1f}" if late else "more" for at in (50, 99))
        slow = f"QoS {case.slow_qos}, {case.slow_acknowledge}"
        rows.append((str(in_flight), case.protocol, slow, f"{came / due:.0%} within 1 s", p50, p99))
    print(grid(rows), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", choices=["throughput", "cost", "slow"], help="one part")
    parser.add_argument("--contestants", nargs="+", metavar="WORD", help="of throughput: those so named")
    given = parser.parse_args()
    print(machine(), flush=True)
    if given.only in (None, "throughput"):
        taking_part = [
            it for it in entries() if not given.contestants or any(word in it.name for word in given.contestants)
        ]
        print(report(trio.run(measure_throughput, *((2, 0.2) if given.quick else (9, 0.5)), taking_part)), flush=True)
    if given.only in (None, "cost"):
        trio.run(_show_cost, *((2, 5_000) if given.quick else (9, 20_000)))
    if given.only in (None, "slow"):
        trio.run(_show_slow, 3 if given.quick else 20)


if __name__ == "__main__":
    main()
