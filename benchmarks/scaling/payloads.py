"""What payloads of 100 B to 1 MiB cost at QoS 1, from app to broker and from broker to app, and round trips.

The app in the split shape and the session alone take turns, and a ratio is the median of the rounds' own ratios. From
app to broker the clock stops when the last message has come out of the broker; from broker to app when the app has it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs

from benchmarks.contest import Contest, Entry, Flooded
from benchmarks.report import Figure, grid, median_of_ratios, percentile

__all__ = ["PAYLOADS", "ByPayload", "Direction", "by_payload", "figures", "tables"]

PAYLOADS = (100, 2**10, 16 * 2**10, 64 * 2**10, 256 * 2**10, 2**20)
_WINDOW_BYTES = 4 * 2**20  # what a channel's window may hold, where its payloads are large
_LARGE = 64 * 2**10  # bytes, from which on the target is meant


@attrs.frozen(kw_only=True)
class Direction:
    """Messages one way, round by round."""

    rates: list[float]
    """Messages a second of the app, through its gateway."""
    session_rates: list[float]
    """The same of the session alone."""
    cpu: dict[str, float]
    """The CPU time in us for each message, by process."""

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def session_rate(self) -> float:
        return statistics.median(self.session_rates)

    @property
    def ratio(self) -> float:
        return median_of_ratios(self.rates, self.session_rates)


@attrs.frozen(kw_only=True)
class ByPayload:
    payload: int
    """Bytes."""
    to_broker: Direction
    to_app: Direction
    p50: float
    """Round trip, in us."""
    session_p50: float


async def by_payload(
    contest: Contest, size: int, *, session: str, messages: int, megabytes: int, trips: int, rounds: int
) -> ByPayload:
    """Measure one size; `megabytes` is the greatest size of one flood."""
    window = max(min(64, _WINDOW_BYTES // size), 4)
    options = {"max_payload": size, "window": window, "qos": (1,), "filters": 1, "session": session}
    most = megabytes * 10**6 // size
    count, trips = (max(min(wanted, most), 20) for wanted in (messages, trips))
    async with (
        contest.open(Entry(f"payload-{size}", "through_gateway", "split", options)) as ours,
        contest.open(Entry(f"payload-{size}-session", "session_directly", None, options)) as alone,
    ):
        ones = (ours, alone)
        for one in ones:
            await one.flood(1, max(count // 10, 1), size)
            await one.inflow(max(count // 10, 1), size)
        out: tuple[list[Flooded], list[Flooded]] = ([], [])
        inward: tuple[list[Flooded], list[Flooded]] = ([], [])
        times: tuple[list[float], list[float]] = ([], [])
        for turn in range(rounds):
            for which in (0, 1) if turn % 2 else (1, 0):
                out[which].append(await ones[which].flood(1, count, size))
                inward[which].append(await ones[which].inflow(count, size))
        # Last, since an app that asks for no more answers is not done with the last one: MQTT has acknowledgements in
        # order, so that those of what comes after it would wait, until no more is read.
        for turn in range(rounds):
            for which in (0, 1) if turn % 2 else (1, 0):
                times[which].append(percentile(await ones[which].trips(trips, size), 0.5))
    return ByPayload(
        payload=size,
        to_broker=_direction(*out),
        to_app=_direction(*inward),
        p50=statistics.median(times[0]),
        session_p50=statistics.median(times[1]),
    )


def _direction(ours: Sequence[Flooded], theirs: Sequence[Flooded]) -> Direction:
    cpu = {name: statistics.median(flood.cpu[name] for flood in ours) for name in ours[0].cpu}
    return Direction(rates=[it.rate for it in ours], session_rates=[it.rate for it in theirs], cpu=cpu)


def tables(measured: Sequence[ByPayload]) -> list[str]:
    """Return a table for each direction, and the round trips in the first."""
    found = []
    for name in ("to_broker", "to_app"):
        first = {"to_broker": "app to broker, bytes", "to_app": "broker to app, bytes"}[name]
        rows = [
            [
                *(first, "msg/s", "MB/s", "session alone, msg/s", "MB/s", "ratio"),
                *("CPU us/msg: app", "gateway", "broker", "round trip p50, us", "session alone, us"),
            ]
        ]
        for it in measured:
            way: Direction = getattr(it, name)
            rows.append(
                [
                    f"{it.payload:,}",
                    *(f"{way.rate:,.0f}", f"{way.rate * it.payload / 1e6:,.1f}"),
                    *(f"{way.session_rate:,.0f}", f"{way.session_rate * it.payload / 1e6:,.1f}", f"{way.ratio:.2f}"),
                    *(f"{way.cpu[half]:,.1f}" for half in ("app", "gateway", "broker")),
                    *(f"{it.p50:,.0f}", f"{it.session_p50:,.0f}"),
                ]
            )
        if name == "to_app":  # a round trip has both directions: once will do
            rows = [row[:-2] for row in rows]
        found.append(grid(rows))
    return found


def figures(measured: Sequence[ByPayload]) -> list[Figure]:
    return [
        Figure(
            what=f"{it.payload // 1024:,} KiB, QoS 1, app to broker: split / session alone",
            measured=it.to_broker.ratio,
            target=0.95,
            unit="x",
            at_most=False,
            beside=f"{it.to_broker.rate:,.0f} / {it.to_broker.session_rate:,.0f} messages/s",
        )
        for it in measured
        if it.payload >= _LARGE
    ]
