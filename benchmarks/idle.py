"""What contestants cost that have nothing to do, and little: CPU time and wake-ups of each process.

python -m benchmarks.idle [--quick] [--only WORD ...] [--rates N ...] [--seconds S] [--json FILE]

First all are connected and idle, at the same time, for they share only the broker, which is idle too. Then each in turn
sends 1, 10 and 100 messages a second at QoS 1. Idle time goes into the CPU time of a message there: it is what the
processes have used meanwhile, over the messages. A wake-up is a voluntary context switch of any thread.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import attrs
import msgspec
import trio

if not __package__:  # started as a file: then this folder is where imports are looked for, not the project's
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.contest import Entry, cpu_time, open_contest, run_contest
from benchmarks.contestants import configurations, missing_peers
from benchmarks.latency import entries
from benchmarks.mosquitto import find_mosquitto
from benchmarks.report import grid, machine

__all__ = ["Idle", "Results", "main", "measure_idle", "wakeups"]

RATES = (1, 10, 100)
_SETTLE = 2.0  # seconds until what the start has set off is over


@attrs.frozen
class Idle:
    """A process with nothing to do, for each second."""

    cpu: float
    """User and system time, in us."""
    wakeups: float


@attrs.define
class Results:
    """The figures of one contestant, by process."""

    idle: Mapping[str, Idle]
    messages: dict[float, Mapping[str, float]] = attrs.field(factory=dict)
    """CPU time of a message in us, by messages a second."""


def wakeups(pid: int) -> Counter[int]:
    """Return how often each of its threads has waited for something and gone on."""
    counts = Counter[int]()
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(FileNotFoundError):  # it has ended
            for line in Path(f"/proc/{pid}/task/{thread}/status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    counts[int(thread)] = int(line.split()[1])
    return counts


async def measure_idle(
    taking_part: Sequence[Entry], rates: Sequence[float], seconds: float
) -> tuple[dict[str, Results], Idle]:
    """Return the results by contestant; and the broker's while all are idle."""
    async with open_contest() as contest, AsyncExitStack() as stack:
        contestants = {entry.name: await stack.enter_async_context(contest.open(entry)) for entry in taking_part}
        for one in contestants.values():
            await one.pace(1, 100, 0.1)
        pids = {name: {**one.processes, "broker": ()} for name, one in contestants.items()}
        flat = [("", "broker", [contest.broker_pid])]
        flat += [(name, half, list(found)) for name, halves in pids.items() for half, found in halves.items() if found]
        await trio.sleep(_SETTLE)
        idle = await _watch(flat, seconds)
        results = {name: Results({half: idle[name, half] for half in pids[name] if half != "broker"}) for name in pids}
        for rate in rates:
            for name, one in contestants.items():
                results[name].messages[rate] = (await one.pace(1, rate, seconds)).cpu
        return results, idle["", "broker"]


async def _watch(processes: Sequence[tuple[str, str, list[int]]], seconds: float) -> dict[tuple[str, str], Idle]:
    def state() -> list[tuple[Counter[int], float, float]]:
        return [
            (sum(map(wakeups, pids), Counter[int]()), sum(map(cpu_time, pids)), trio.current_time())
            for _, _, pids in processes
        ]

    before = state()
    await trio.sleep(seconds)
    return {
        # Subtraction leaves out threads that have ended meanwhile.
        (name, half): Idle((cpu_1 - cpu_0) / (at_1 - at_0) * 1e6, (counts_1 - counts_0).total() / (at_1 - at_0))
        for (name, half, _), (counts_0, cpu_0, at_0), (counts_1, cpu_1, at_1) in zip(
            processes, before, state(), strict=True
        )
    }


_HALVES = ("app", "gateway", "supervisor", "broker")


def side_by_side(results: Mapping[str, Results], broker: Idle) -> str:
    """Return a table of idle processes, and one of messages at low rates."""
    idle = [["idle, each second", *(f"{half}: CPU us" for half in _HALVES[:-1]), "all", "wake-ups: app", "gateway"]]
    idle[0] += ["supervisor", "all "]
    for name, one in results.items():
        parts = [one.idle.get(half) for half in _HALVES[:-1]]
        cpu = [*(it and it.cpu for it in parts), sum(it.cpu for it in one.idle.values())]
        counts = [*(it and it.wakeups for it in parts), sum(it.wakeups for it in one.idle.values())]
        idle.append([name, *("-" if it is None else f"{it:,.0f}" for it in cpu)])
        idle[-1] += ["-" if it is None else f"{it:,.1f}" for it in counts]
    rates = sorted({rate for one in results.values() for rate in one.messages})
    cost = [["CPU us a message, QoS 1", *(f"{rate:g}/s: all" for rate in rates)]]
    cost[0] += [f"{rates[-1]:g}/s: {half}" for half in _HALVES] if rates else []
    for name, one in results.items():
        spent = [sum(cpu for half, cpu in one.messages[rate].items() if half != "broker") for rate in rates]
        cost.append([name, *(f"{cpu:,.0f}" for cpu in spent)])
        if rates:
            last = one.messages[rates[-1]]
            cost[-1] += [f"{last[half]:,.0f}" if half in last else "-" for half in _HALVES]
    beside = f"The broker, with all of them: {broker.cpu:,.0f} us, {broker.wakeups:.1f} wake-ups a second."
    return f"{grid(idle)}\n{beside}\n\n{grid(cost)}\n`all` is without the broker."


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="3 seconds for each: two and a half minutes instead of eight"
    )
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only those whose name has one of these words in it")
    parser.add_argument("--rates", nargs="*", type=float, metavar="N", default=RATES, help="messages a second")
    parser.add_argument("--seconds", type=float, metavar="S", help="by default 10")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured there")
    options = parser.parse_args()
    find_mosquitto()
    where = machine()
    taking_part = entries()
    if options.only:
        taking_part = [entry for entry in taking_part if any(word in entry.name for word in options.only)]
    seconds = options.seconds or (3 if options.quick else 10)
    results, broker = run_contest(measure_idle, taking_part, options.rates, seconds)
    print("\n".join([where, "", configurations(), "", side_by_side(results, broker), *missing_peers()]))
    if options.json is not None:
        document = {
            "machine": where,
            "contestants": {name: attrs.asdict(one) for name, one in results.items()},
            "broker": attrs.asdict(broker),
        }
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


if __name__ == "__main__":
    main()
