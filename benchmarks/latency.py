"""Latency at fixed rates, from the time at which a message was to be sent by the schedule, to its arrival.

python -m benchmarks.latency [--quick] [--only WORD ...] [--rates N ...] [--qos 0|1] [--seconds S] [--json FILE]

Open loop: the schedule goes on whatever becomes of the messages before; each carries the time at which it was due. A
sender that falls behind sends at once, and what waited meanwhile counts as late: there is no coordinated omission. What
was not sent when the time was half over again counts with the time it had waited, so its percentiles are lower bounds.
Arrivals are taken by a subscriber that is nobody's client, on the clock that all processes of the machine share.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import attrs
import msgspec
import trio

if not __package__:  # started as a file: then this folder is where imports are looked for, not the project's
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.contest import Contestant, Entry, Kept, open_contest, run_contest
from benchmarks.contestants import configurations, direct, missing_peers, ours, peers
from benchmarks.mosquitto import find_mosquitto
from benchmarks.peers.control import QoS
from benchmarks.report import grid, machine, percentile

__all__ = ["SHARES", "AtRate", "entries", "main", "measure_latency"]

RATES = (100, 1_000, 5_000, 20_000)
SHARES = (0.5, 0.9, 0.99, 0.999, 0.9999)
_HALVES = ("app", "gateway", "broker")
_KEEPS_UP = 0.97  # of the rate that was asked for
_WARM_UP = 0.2  # seconds
_MOST = 40_000  # messages of a round: MQTT has 65,535 packet ids, and some clients give one to each message that waits


@attrs.frozen(kw_only=True)
class AtRate:
    """One contestant at one rate, all rounds together."""

    name: str
    rate: float
    achieved: float
    """Messages a second; in the worst round."""
    unsent: int
    latencies: Sequence[float]
    """In us, sorted."""
    cpu: Mapping[str, float]
    """In us for each message, by process; means of the rounds."""

    @property
    def kept_up(self) -> bool:
        return not self.unsent and self.achieved >= _KEEPS_UP * self.rate

    def latency(self, share: float) -> float | None:
        """Return a percentile in us, if at least one message is beyond it."""
        return percentile(self.latencies, share) if len(self.latencies) * (1 - share) >= 1 - 1e-9 else None

    @classmethod
    def of(cls, name: str, rounds: Sequence[Kept]) -> AtRate:
        return cls(
            name=name,
            rate=rounds[0].asked,
            achieved=min(kept.achieved for kept in rounds),
            unsent=sum(kept.unsent for kept in rounds),
            latencies=sorted(latency for kept in rounds for latency in kept.latencies),
            cpu={half: sum(kept.cpu[half] for kept in rounds) / len(rounds) for half in rounds[0].cpu},
        )

    def as_document(self) -> dict[str, Any]:
        percentiles = {f"p{share * 100:g}": self.latency(share) for share in SHARES}
        return {
            "name": self.name,
            "rate": self.rate,
            "achieved": self.achieved,
            "kept_up": self.kept_up,
            "unsent": self.unsent,
            "count": len(self.latencies),
            "us": {**percentiles, "max": self.latencies[-1]},
            "cpu_us_per_message": dict(self.cpu),
        }


def entries() -> list[Entry]:
    """Return who takes part: every option of ours at its default, and each peer in its best configuration."""
    return [
        ours("split", default=True, paced=True),
        ours("in-process", default=True, paced=True),
        attrs.evolve(ours("split", default=True, paced=True, receipts=True, stored=True), name="split-native-64-store"),
        direct(),
        *peers(),
    ]


async def measure_latency(
    taking_part: Sequence[Entry], rates: Sequence[float], qos: QoS, rounds: int, seconds: float
) -> tuple[list[AtRate], list[str]]:
    """Measure all in turn at each rate, round after round. Return also who dropped out, and why."""
    dropped: list[str] = []
    kept: dict[tuple[float, str], list[Kept]] = {}
    async with open_contest() as contest, AsyncExitStack() as stack:
        contestants = {entry.name: await stack.enter_async_context(contest.open(entry)) for entry in taking_part}
        for one in contestants.values():
            await _warm_up(one, qos)
        for _ in range(rounds):
            for rate in rates:
                for name, one in list(contestants.items()):
                    try:
                        kept.setdefault((rate, name), []).append(await one.pace(qos, rate, min(seconds, _MOST / rate)))
                    except (RuntimeError, trio.TooSlowError) as exc:
                        dropped.append(f"{name} dropped out at {rate:,.0f} a second: {exc!r}")
                        del contestants[name]
    return [AtRate.of(name, outcomes) for (_, name), outcomes in kept.items() if outcomes], dropped


async def _warm_up(one: Contestant, qos: QoS) -> None:
    await one.pace(qos, 1_000, _WARM_UP)


def side_by_side(measured: Sequence[AtRate], qos: int) -> str:
    """Return a table for each rate."""
    tables = []
    for rate in sorted({it.rate for it in measured}):
        rows = [
            [
                f"{rate:,.0f}/s, QoS {qos}",
                *(f"p{share * 100:g}, us" for share in SHARES),
                "max, us",
                "achieved/s",
                "kept up",
                *(f"{'CPU us/msg: ' if half == _HALVES[0] else ''}{half}" for half in _HALVES),
            ]
        ]
        for it in measured:
            if it.rate == rate:
                bound = ">" if it.unsent else ""
                cells = [it.latency(share) for share in SHARES]
                rows.append(
                    [
                        it.name,
                        *("-" if cell is None else f"{bound}{cell:,.0f}" for cell in cells),
                        f"{bound}{it.latencies[-1]:,.0f}",
                        f"{it.achieved:,.0f}",
                        "yes" if it.kept_up else "no",
                        *(f"{it.cpu[half]:,.0f}" if half in it.cpu else "-" for half in _HALVES),
                    ]
                )
        tables.append(grid(rows))
    return "\n\n".join(tables)


def to_json(measured: Sequence[AtRate], qos: int, where: str) -> bytes:
    document = {"machine": where, "qos": qos, "rates": [it.as_document() for it in measured]}
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of a second: two minutes instead of twenty")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only those whose name has one of these words in it")
    parser.add_argument("--rates", nargs="+", type=float, metavar="N", default=RATES, help="messages a second")
    parser.add_argument("--qos", type=int, choices=(0, 1), default=1)
    parser.add_argument("--seconds", type=float, metavar="S", help="the time of a rate in a round, by default 8")
    parser.add_argument("--rounds", type=int, metavar="N", help="by default 3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured there")
    options = parser.parse_args()
    find_mosquitto()
    where = machine()
    taking_part = entries()
    if options.only:
        taking_part = [entry for entry in taking_part if any(word in entry.name for word in options.only)]
    rounds = options.rounds or (1 if options.quick else 3)
    seconds = options.seconds or (1 if options.quick else 8)
    measured, dropped = run_contest(measure_latency, taking_part, options.rates, options.qos, rounds, seconds)
    print("\n".join([where, "", configurations(), "", side_by_side(measured, options.qos), *dropped, *missing_peers()]))
    if options.json is not None:
        options.json.write_bytes(to_json(measured, options.qos, where) + b"\n")


if __name__ == "__main__":
    main()
