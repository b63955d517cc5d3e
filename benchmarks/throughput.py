"""An app through its gateway, in both shapes and with each session, against clients that are used directly.

python -m benchmarks.throughput [--quick] [--only WORD ...] [--json FILE]

Each contestant is one process or more that publishes 100 bytes through the same mosquitto: as fast as it can at QoS 0,
then at QoS 1, then one message at a time at QoS 1, each when the answer of an echo has come. They take turns, round
after round, in an order that is drawn anew for each: whoever comes behind one that has filled the disk's queue pays for
it. A ratio is the median of the rounds' own ratios. What comes out of the broker is counted, number by number, by a
subscriber that is nobody's client; `contest.py` has the details. CPU time is user and system time of each process, per
message, from the kernel's own clock of that process. The peers are in `peers/`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import attrs
import msgspec

if not __package__:  # started as a file: then this folder is where imports are looked for, not the project's
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.contest import Contestant, Entry, Flooded, open_contest, run_contest
from benchmarks.contestants import FAST, FEATURES, configurations, direct, features, missing_peers, ours, peers
from benchmarks.mosquitto import find_mosquitto
from benchmarks.peers.control import QoS
from benchmarks.report import Figure, as_documents, grid, machine, median_of_ratios, percentile, table

__all__ = ["Results", "entries", "main", "measure_throughput"]

SESSIONS = (FAST, "aiomqtt")
"""The gateway's sessions; the first is the fast one, which the targets are for."""
QOS: tuple[QoS, ...] = (0, 1)
_WARM_UP = 1_000
_COUNTS = (1_000, 40_000)
_HALVES = ("app", "gateway", "broker")
_RECEIPTS, _STORE = "split-native-receipts", "split-native-store"
_SENDS = 500  # calls of `send` that are timed in a round


@attrs.frozen(kw_only=True)
class Effort:
    """The amounts to measure, which decide how long it takes."""

    rounds: int
    seconds: float
    """About how long one flood is to take, by what the warm-up has shown."""
    trips: int


QUICK = Effort(rounds=2, seconds=0.25, trips=200)
FULL = Effort(rounds=9, seconds=0.5, trips=500)


@attrs.define
class Results:
    """The figures of one contestant, round by round."""

    entry: Entry
    floods: dict[QoS, list[Flooded]] = attrs.field(factory=lambda: {qos: [] for qos in QOS})
    p50: list[float] = attrs.field(factory=list)
    """The round trips of each round, in us."""
    p99: list[float] = attrs.field(factory=list)
    sends: list[float] = attrs.field(factory=list)
    """Calls of `send`, of all rounds, in us; only through a gateway."""

    def rates(self, qos: QoS) -> list[float]:
        return [flood.rate for flood in self.floods[qos]]

    def rate(self, qos: QoS) -> float:
        return statistics.median(self.rates(qos))

    def cpu(self, qos: QoS) -> dict[str, float]:
        """Return the medians by process, in us for each message."""
        floods = self.floods[qos]
        return {name: statistics.median(flood.cpu[name] for flood in floods) for name in floods[0].cpu}


def entries() -> tuple[list[Entry], list[str]]:
    """Return who takes part on this machine; and, for people, who does not, with what to install for it."""
    taking_part = []
    for session in SESSIONS:
        taking_part += [ours("split", session), ours("in-process", session), direct(session)]
    taking_part += [ours("split", default=True), ours("in-process", default=True)]
    receipts = attrs.evolve(ours("split", receipts=True), name=_RECEIPTS)
    stored = attrs.evolve(ours("split", receipts=True, stored=True), name=_STORE)
    others = peers()
    taking_part += [*others, receipts, stored, Entry("aiomqtt-1-at-once", "with_aiomqtt")]
    if any(entry.name == "mqttium" for entry in others):
        taking_part.append(Entry("mqttium-store", "with_mqttium", None, {"receipts": True, "stored": True}))
    return taking_part, missing_peers()


async def measure_throughput(effort: Effort, taking_part: Sequence[Entry]) -> dict[str, Results]:
    """Measure all in turn, round after round, after one to warm up. Return the results by name."""
    results = {entry.name: Results(entry) for entry in taking_part}
    async with open_contest() as contest, AsyncExitStack() as stack:
        contestants = {entry.name: await stack.enter_async_context(contest.open(entry)) for entry in taking_part}
        counts = {name: await _warm_up(one, effort) for name, one in contestants.items()}
        for _ in range(effort.rounds):
            for qos in QOS:
                for name, one in random.sample(list(contestants.items()), len(contestants)):
                    results[name].floods[qos].append(await one.flood(qos, counts[name][qos]))
            for name, one in contestants.items():
                trips = await one.trips(effort.trips)
                results[name].p50.append(percentile(trips, 0.5))
                results[name].p99.append(percentile(trips, 0.99))
                if one.domain is not None:
                    results[name].sends += await one.sends(_SENDS)
    return results


async def _warm_up(one: Contestant, effort: Effort) -> dict[QoS, int]:
    """Return the number of messages for it at each QoS, so that a slow one does not hold up the rest."""
    await one.trips(effort.trips // 4)
    lowest, highest = _COUNTS
    return {qos: min(max(int((await one.flood(qos, _WARM_UP)).rate * effort.seconds), lowest), highest) for qos in QOS}


def figures_of(results: dict[str, Results]) -> list[Figure]:
    """Return the promises about the split shape with the fast session, as far as its rivals took part."""
    split = results.get(f"split-{SESSIONS[0]}")
    if split is None:
        return []
    figures = []
    for name, targets in (("gmqtt", {0: 1.0, 1: 1.2}), ("aiomqtt-1-at-once", {0: 5.0, 1: 5.0})):
        for own in (split, results.get(f"{split.entry.name}-64")):
            if (theirs := results.get(name)) and own:
                figures += [_compare(own, theirs, qos, targets[qos]) for qos in QOS]
    for name, rival, target in ((_RECEIPTS, "mqttium", 1.0), (_STORE, "mqttium-store", 1.5)):
        if (own := results.get(name)) and (theirs := results.get(rival)):
            figures.append(_compare(own, theirs, 1, target))
    if alone := results.get(f"session-{SESSIONS[0]}"):
        added = [both - its for both, its in zip(split.p50, alone.p50, strict=True)]
        figures.append(
            Figure(
                what=f"round trip, QoS 1, p50: {split.entry.name} - {alone.entry.name}",
                measured=statistics.median(added),
                target=200,
                unit="us",
                at_most=True,
                beside=f"{statistics.median(split.p50):.0f} - {statistics.median(alone.p50):.0f} us",
            )
        )
    figures += [
        Figure(
            what=f"CPU time of the gateway process for a message, QoS {qos}",
            measured=split.cpu(qos)["gateway"],
            target=15,
            unit="us",
            at_most=True,
            beside=", ".join(f"{name} {spent:.1f} us" for name, spent in sorted(split.cpu(qos).items())),
        )
        for qos in QOS
    ]
    return figures


def _compare(ours: Results, theirs: Results, qos: QoS, target: float) -> Figure:
    return Figure(
        what=f"100 B, QoS {qos}: {ours.entry.name} / {theirs.entry.name}",
        measured=median_of_ratios(ours.rates(qos), theirs.rates(qos)),
        target=target,
        unit="x",
        at_most=False,
        beside=f"{ours.rate(qos):,.0f} / {theirs.rate(qos):,.0f} messages/s",
    )


def side_by_side(results: dict[str, Results]) -> str:
    """Return a line for each contestant, medians of all rounds: its speed, what it does for an app, its cost."""
    came = [["100 B", "QoS 0, msg/s", "QoS 1, msg/s", "round trip p50, us", "p99, us", "send p50, us", "p99, us"]]
    came[0] += FEATURES
    cost = [["CPU us/msg", *(f"QoS {qos}: {half}" for qos in QOS for half in _HALVES)]]
    for name, one in results.items():
        amounts = [one.rate(0), one.rate(1), statistics.median(one.p50), statistics.median(one.p99)]
        calls = [f"{percentile(one.sends, share):,.0f}" if one.sends else "-" for share in (0.5, 0.99)]
        came.append([name, *(f"{amount:,.0f}" for amount in amounts), *calls, *features(one.entry)])
        spent = (one.cpu(qos) for qos in QOS)
        cost.append([name, *(_cell(cpu, half) for cpu in spent for half in _HALVES)])
    return f"{grid(came)}\n\n{grid(cost)}"


def _cell(cpu: dict[str, float], half: str) -> str:
    return f"{cpu[half]:.1f}" if half in cpu else "-"


def to_json(results: dict[str, Results], figures: Sequence[Figure], where: str) -> bytes:
    document = {
        "machine": where,
        "contestants": {
            name: {
                "messages_per_second": {qos: one.rates(qos) for qos in QOS},
                "cpu_us_per_message": {qos: one.cpu(qos) for qos in QOS},
                "round_trip_us": {"p50": one.p50, "p99": one.p99},
                "send_us": {f"p{share}": percentile(one.sends, share / 100) for share in (50, 99) if one.sends},
            }
            for name, one in results.items()
        },
        "figures": as_documents(figures),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


async def throughput_figures(quick: bool, say: Callable[[str], object]) -> list[Figure]:
    """Return the figures that have targets, for `run.py`; show the table by the way."""
    taking_part, missing = entries()
    results = await measure_throughput(QUICK if quick else FULL, taking_part)
    say("\n".join([side_by_side(results), *missing]))
    return figures_of(results)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: one and a half minutes instead of six")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only those whose name has one of these words in it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured there")
    options = parser.parse_args()
    find_mosquitto()
    where = machine()
    taking_part, missing = entries()
    if options.only:
        taking_part = [entry for entry in taking_part if any(word in entry.name for word in options.only)]
    results = run_contest(measure_throughput, QUICK if options.quick else FULL, taking_part)
    figures = figures_of(results)
    print("\n".join([where, "", configurations(), "", side_by_side(results), *missing]))
    if figures:
        print(f"\n{table(figures)}")
    if options.json is not None:
        options.json.write_bytes(to_json(results, figures, where) + b"\n")


if __name__ == "__main__":
    main()
