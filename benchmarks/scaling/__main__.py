"""The cost as work grows: channels, payloads and topic filters, with mosquitto, by the contest of `throughput.py`."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

import attrs
import msgspec
import trio

from benchmarks.contest import open_contest
from benchmarks.mosquitto import find_mosquitto
from benchmarks.report import machine, table
from benchmarks.scaling import channels, filters, payloads
from benchmarks.scaling.channels import FEW, MANY, MOST, SHAPES, Beside, ByChannels
from benchmarks.scaling.filters import ByFilters
from benchmarks.scaling.payloads import PAYLOADS, ByPayload
from benchmarks.throughput import SESSIONS

__all__ = ["Effort", "Scaling", "main", "measure_scaling"]

CHANNELS = (1, 3, 10, 30, 100, 300, 1_000)
FILTERS = (1, 100, 1_000, 10_000)
PARTS = ("channels", "payloads", "filters")


@attrs.frozen(kw_only=True)
class Effort:
    """The amounts to measure, which decide how long it takes."""

    channels: Sequence[int]
    filter_channels: int
    """The greatest number of filters that are tried as channels of an app."""
    rounds: int
    messages: int
    """The number of messages in each flood."""
    megabytes: int
    """The greatest size of a flood of large payloads, in MB."""
    trips: int


QUICK = Effort(channels=(1, 10, 100), filter_channels=100, rounds=1, messages=2_000, megabytes=32, trips=50)
FULL = Effort(channels=CHANNELS, filter_channels=1_000, rounds=3, messages=8_000, megabytes=128, trips=200)


@attrs.frozen(kw_only=True)
class Scaling:
    machine: str
    session: str
    channels: list[ByChannels] = attrs.field(factory=list)
    compared: Beside | None = None
    payloads: list[ByPayload] = attrs.field(factory=list)
    filters: list[ByFilters] = attrs.field(factory=list)
    left_out: list[str] = attrs.field(factory=list)
    """Remarks for people: what this machine did not allow, in the words in which it was refused."""


async def measure_scaling(effort: Effort, session: str, where: str, parts: Collection[str]) -> Scaling:
    """Measure one deployment after the other, each with a broker that has nothing else to do."""
    done = Scaling(machine=where, session=session)
    async with open_contest() as contest:
        if "channels" in parts:
            for count in effort.channels:
                for shape in SHAPES:
                    it = await channels.by_channels(
                        contest, count, shape, session, effort.messages, effort.rounds, done.left_out
                    )
                    if it is not None:
                        done.channels.append(it)
            many = max([it.channels for it in done.channels if FEW < it.channels <= MANY], default=None)
            if many is not None:
                compared = await channels.beside(contest, session, FEW, many, effort.messages)
                done = attrs.evolve(done, compared=compared)
        if "payloads" in parts:
            for size in PAYLOADS:
                done.payloads.append(
                    await payloads.by_payload(
                        contest,
                        size,
                        session=session,
                        messages=effort.messages,
                        megabytes=effort.megabytes,
                        trips=effort.trips,
                        rounds=effort.rounds,
                    )
                )
        if "filters" in parts:
            for count in FILTERS:
                done.filters.append(
                    await filters.by_filters(
                        contest,
                        count,
                        as_channels=count <= effort.filter_channels,
                        session=session,
                        messages=effort.messages,
                        rounds=effort.rounds,
                    )
                )
    return done


def report(scaling: Scaling) -> str:
    """Return the figures as tables, for people."""
    blocks = [scaling.machine]
    if scaling.channels:
        blocks += channels.tables(scaling.channels)
    if scaling.payloads:
        blocks += payloads.tables(scaling.payloads)
    if scaling.filters:
        blocks += filters.tables(scaling.filters)
    if compared := scaling.compared:
        few, many = (sorted(it)[len(it) // 2] for it in (compared.few_rates, compared.many_rates))
        blocks.append(
            f"QoS 1 by turns: {many:,.0f} msg/s with {compared.many:,} channels, {few:,.0f} with {compared.few}"
        )
    figures = [*channels.figures(scaling.channels, scaling.compared), *payloads.figures(scaling.payloads)]
    blocks += [table(figures)] if figures else []
    return "\n\n".join([*blocks, *(f"Refused: {why}" for why in scaling.left_out)])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="less of it: a minute instead of eight")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some parts")
    parser.add_argument("--most", type=int, metavar="N", default=MANY, help="no more channels than that (%(default)s)")
    parser.add_argument("--ten-thousand", action="store_true", help=f"try {MOST:,} channels too")
    parser.add_argument("--session", default=SESSIONS[0], choices=SESSIONS, help="the gateway's (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured, for `plot`")
    options = parser.parse_args()
    find_mosquitto()
    effort = QUICK if options.quick else FULL
    counts = [count for count in effort.channels if count <= options.most]
    effort = attrs.evolve(
        effort,
        channels=[*counts, MOST] if options.ten_thousand else counts,
        filter_channels=min(effort.filter_channels, options.most),
    )
    scaling = trio.run(measure_scaling, effort, options.session, machine(), options.only)
    print(report(scaling))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(scaling)) + b"\n")


if __name__ == "__main__":
    main()
