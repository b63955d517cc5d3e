"""Through a Zenoh router: our gateway in both shapes, Zenoh used directly, and MQTT's figures beside them, in turn.

python -m benchmarks.zenoh [--quick] [--only WORD ...] [--json FILE]

As `benchmarks.throughput` and `benchmarks.inbound`: out of the server and into the app as fast as it goes, with 100
bytes and with 10,000, at most once and acknowledged; one message there and back through an independent echo; the CPU
time of each process. And how late a 10 ms tick of the app is while messages flow both ways. A ratio is the median of
the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import attrs

if not __package__:  # started as a file: then this folder is where imports are looked for, not the project's
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks import contestants
from benchmarks.contest import MQTT, Contestant, Entry, Network, open_contest, run_contest
from benchmarks.mosquitto import find_mosquitto
from benchmarks.peers.control import QoS
from benchmarks.report import machine, table
from benchmarks.zenoh.network import ZENOH
from benchmarks.zenoh.results import QOS, SIZES, Results, figures_of, side_by_side, to_json

__all__ = ["entries", "main", "measure"]

_WARM_UP = 1_000
_COUNTS = {100: (1_000, 60_000), 10_000: (200, 4_000)}
"""The least and the most of a flood. So much fits into a gateway's backlog, which else would discard some of it."""


@attrs.frozen(kw_only=True)
class Effort:
    """The amounts to measure, which decide how long it takes."""

    rounds: int
    seconds: float
    """About how long one flood is to take, by what the warm-up has shown."""
    trips: int
    ticks: int


QUICK = Effort(rounds=2, seconds=0.25, trips=200, ticks=100)
FULL = Effort(rounds=7, seconds=0.5, trips=500, ticks=300)


def entries() -> list[tuple[Network, Entry]]:
    """Return who takes part: ours with a window of 256, and who is used directly."""
    options = {"filters": 2, "max_payload": max(SIZES)}
    taking_part = [(ZENOH, Entry("zenoh", "with_zenoh", None, options))]
    for network, filters, protocol in ((ZENOH, 2, "zenoh"), (MQTT, 1, "mqtt")):
        for mode in ("split", "in-process"):
            entry = contestants.ours(mode, filters=filters, max_payload=max(SIZES), ticks=QOS)
            taking_part.append((network, attrs.evolve(entry, name=f"{protocol}-{mode}")))
    taking_part += [
        (MQTT, attrs.evolve(entry, options={**entry.options, "filters": 1, "max_payload": max(SIZES)}))
        for entry in contestants.peers()
        if entry.name == "gmqtt"
    ]
    return taking_part


async def measure(effort: Effort, taking_part: Sequence[tuple[Network, Entry]]) -> dict[str, Results]:
    """Measure all in turn, round after round, in an order that is drawn anew. Return the results by name."""
    results = {entry.name: Results(network, entry) for network, entry in taking_part}
    async with AsyncExitStack() as stack:
        networks = {network.protocol: network for network, _ in taking_part}
        contests = {name: await stack.enter_async_context(open_contest(network)) for name, network in networks.items()}
        ones = {
            entry.name: await stack.enter_async_context(contests[network.protocol].open(entry))
            for network, entry in taking_part
        }
        counts = {name: await _warm_up(one, effort) for name, one in ones.items()}
        for _ in range(effort.rounds):
            for name, one in _drawn(ones):
                await _round(one, counts[name], effort, results[name])
    return results


def _drawn(ones: dict[str, Contestant]) -> list[tuple[str, Contestant]]:
    return random.sample(list(ones.items()), len(ones))


async def _round(
    one: Contestant, counts: dict[tuple[QoS, int], tuple[int, int]], effort: Effort, results: Results
) -> None:
    for (qos, length), (outward, inward) in counts.items():
        results.out[qos, length].append(await one.flood(qos, outward, length))
        results.into[qos, length].append(await one.inflow(inward, length, qos))
    for qos in results.trip_qos:
        results.note_trips(qos, await one.trips(effort.trips, qos=qos))
    for qos in results.tick_qos:
        for batch in results.late:
            results.late[batch][qos] += await one.ticks(effort.ticks, qos, batch)


async def _warm_up(one: Contestant, effort: Effort) -> dict[tuple[QoS, int], tuple[int, int]]:
    """Return the number of messages out and in for it, so that a slow one does not hold up the rest."""
    counts = {}
    for qos in QOS:
        for length in SIZES:
            lowest, highest = _COUNTS[length]
            first = min(_WARM_UP, highest // 4)
            rates = [(await one.flood(qos, first, length)).rate, (await one.inflow(first, length, qos)).rate]
            outward, inward = (min(max(int(rate * effort.seconds), lowest), highest) for rate in rates)
            counts[qos, length] = outward, inward
    return counts


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zenoh", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two rounds: two minutes instead of ten")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only those whose name has one of these words in it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured there")
    options = parser.parse_args()
    find_mosquitto()
    where = machine("eclipse-zenoh")
    taking_part = entries()
    if options.only:
        taking_part = [(net, entry) for net, entry in taking_part if any(word in entry.name for word in options.only)]
    results = run_contest(measure, QUICK if options.quick else FULL, taking_part)
    figures = figures_of(results)
    print("\n".join([where, "", side_by_side(results)]))
    if figures:
        print(f"\n{table(figures)}")
    if options.json is not None:
        options.json.write_bytes(to_json(results, figures, where) + b"\n")


if __name__ == "__main__":
    main()
