"""From broker to app: messages a second and CPU time a message, ours and every peer's, in turn; a part of `inbound.py`.

A process that is nobody's client publishes 100 bytes as fast as the broker takes them, at QoS 0 and at QoS 1; the clock
runs from its first message until the contestant has the last. `benchmarks.scaling --only payloads` has larger ones.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

import attrs
import msgspec

from benchmarks.contest import Contestant, Entry, Flooded, open_contest
from benchmarks.contestants import direct, missing_peers, ours, peers
from benchmarks.peers.control import QoS
from benchmarks.report import grid, median_of_ratios

__all__ = ["entries", "measure_throughput", "report"]

QOS: tuple[QoS, ...] = (0, 1)
_WARM_UP = 1_000
_COUNTS = (1_000, 40_000)
_RIVAL = "gmqtt"
_DROPS = ("aiomqtt-3",)
"""Drops what comes at QoS 0 while its app is not waiting, so that there is no rate without loss."""
Results = Mapping[str, Mapping[QoS, Sequence[Flooded]]]


def entries() -> list[Entry]:
    """Return who takes part on this machine: ours with a window of 256 and of 64, and those of the outbound table."""
    both = [ours("split"), ours("split", default=True), ours("in-process"), ours("in-process", default=True)]
    return [
        attrs.evolve(it, options={**it.options, "filters": 1, "qos": (1,) if it.name in _DROPS else QOS})
        for it in (*both, direct(), *peers())
    ]


async def measure_throughput(rounds: int, seconds: float, taking_part: Sequence[Entry]) -> Results:
    """Measure all in turn, in another order each round; each for about so many seconds, by what a warm-up has shown."""
    results = {it.name: {qos: list[Flooded]() for qos in _qos(it)} for it in taking_part}
    async with open_contest() as contest, AsyncExitStack() as stack:
        ones = {it.name: await stack.enter_async_context(contest.open(it)) for it in taking_part}
        counts = {name: await _warm_up(one, seconds, list(results[name])) for name, one in ones.items()}
        for _ in range(rounds):
            for qos in QOS:
                for name, one in random.sample(list(ones.items()), len(ones)):
                    if qos in results[name]:
                        results[name][qos].append(await one.inflow(counts[name][qos], qos=qos))
    return results


def _qos(entry: Entry) -> Sequence[QoS]:
    return msgspec.convert(entry.options["qos"], tuple[QoS, ...])


async def _warm_up(one: Contestant, seconds: float, levels: Sequence[QoS]) -> dict[QoS, int]:
    lowest, highest = _COUNTS
    rates = {qos: (await one.inflow(_WARM_UP, qos=qos)).rate for qos in levels}
    return {qos: min(max(int(rate * seconds), lowest), highest) for qos, rate in rates.items()}


def report(results: Results) -> str:
    """Return the table, and who was left out."""
    head = ["100 B, broker to app"]
    for qos in QOS:
        head += [f"QoS {qos}, msg/s", f"of {_RIVAL}", "CPU us: app", "gateway", "broker"]
    rows = [head]
    for name, by_qos in results.items():
        row = [name]
        for qos in QOS:
            floods = by_qos.get(qos, [])
            if not floods:
                row += ["-"] * 5
                continue
            rates = [it.rate for it in floods]
            rival = [it.rate for it in results[_RIVAL][qos]] if _RIVAL in results else []
            row += [f"{statistics.median(rates):,.0f}", f"{median_of_ratios(rates, rival):.2f}" if rival else "-"]
            row += [
                f"{statistics.median(it.cpu[half] for it in floods):.1f}" if half in floods[0].cpu else "-"
                for half in ("app", "gateway", "broker")
            ]
        rows.append(row)
    notes = [f"{name} drops what comes at QoS 0 while its app is not waiting" for name in _DROPS if name in results]
    return "\n".join([grid(rows), *notes, *missing_peers()])
