"""What topic filters cost: matching a topic, beside a matcher that tries them one by one; and receiving.

Received are messages at QoS 1 that match one of so many filters, by the session alone and by an app whose every filter
is a channel.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import attrs
import trio

from benchmarks.contest import Contest, Contestant, Entry
from benchmarks.report import grid
from taktora_trio.connectors.mqtt.topics import FilterTree, covers, minimal_filters

__all__ = ["ByFilters", "by_filters", "tables"]


@attrs.frozen(kw_only=True)
class ByFilters:
    filters: int
    tree: float
    """The time to match one topic, in us."""
    naive: float
    minimal: float | None
    """The time to find out which filters to subscribe, in ms; once a start. `None` where it would take too long."""
    session_rate: float
    """Messages a second that the session alone receives and matches, at QoS 1."""
    app_rate: float | None
    """The same at an app whose every filter is a channel. `None` where that was not tried."""
    app_start_seconds: float | None


async def by_filters(
    contest: Contest, count: int, *, as_channels: bool, session: str, messages: int, rounds: int
) -> ByFilters:
    """Measure with so many filters; as channels of an app only where that is asked for."""
    tree, naive, minimal = _matching(count)
    options = {"filters": count, "qos": (), "session": session}
    async with contest.open(Entry(f"filters-{count}-session", "session_directly", None, options)) as alone:
        session_rate = await _inflow(alone, messages, rounds)
    app_rate = app_start = None
    if as_channels:
        start = trio.current_time()
        async with contest.open(Entry(f"filters-{count}", "through_gateway", "split", options)) as ours:
            app_start = trio.current_time() - start
            app_rate = await _inflow(ours, messages, rounds)
    return ByFilters(
        filters=count,
        tree=tree,
        naive=naive,
        minimal=minimal,
        session_rate=session_rate,
        app_rate=app_rate,
        app_start_seconds=app_start,
    )


def _matching(count: int) -> tuple[float, float, float | None]:
    """Return the times by the tree and one by one, in us a topic; and for the filters to subscribe, in ms."""
    filters = [f"plant/{number}/+/value" for number in range(count)]
    topics = [f"plant/{number * count // 50}/motor/value" for number in range(50)]
    tree = FilterTree((name, name) for name in filters)
    for topic in topics:  # both find the same
        assert tree.match(topic) == [name for name in filters if covers(name, topic)]

    def by_tree() -> None:
        for topic in topics:
            tree.match(topic)

    def one_by_one() -> None:
        for topic in topics:
            for name in filters:
                covers(name, topic)

    wanted = dict.fromkeys(filters, 1)
    # It was found to grow with the square of the filters: what a tenth takes tells whether to wait for all.
    tenth = dict.fromkeys(filters[: count // 10], 1)
    patient = _time(lambda: minimal_filters(tenth), 1) < 0.1
    return (
        _time(by_tree, 20) / len(topics) * 1e6,
        _time(one_by_one, 1) / len(topics) * 1e6,
        _time(lambda: minimal_filters(wanted), 1) * 1e3 if patient else None,
    )


def _time(work: Callable[[], object], repeats: int) -> float:
    """Return the median of the times that it takes, in seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


async def _inflow(one: Contestant, messages: int, rounds: int) -> float:
    await one.inflow(messages // 10)
    return statistics.median([(await one.inflow(messages)).rate for _ in range(rounds)])


def tables(measured: Sequence[ByFilters]) -> list[str]:
    rows = [
        [
            *("filters", "match, us", "one by one, us", "choose what to subscribe, ms"),
            *("received by the session, msg/s", "by an app, msg/s", "its start, s"),
        ]
    ]
    rows += [
        [
            *(f"{it.filters:,}", f"{it.tree:.1f}", f"{it.naive:,.1f}", _or_dash(it.minimal, "{:,.1f}")),
            *(f"{it.session_rate:,.0f}", _or_dash(it.app_rate, "{:,.0f}"), _or_dash(it.app_start_seconds, "{:.1f}")),
        ]
        for it in measured
    ]
    return [grid(rows)]


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
