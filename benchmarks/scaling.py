"""The cost as work grows: channels, payloads and topic filters, through the split shape.

python -m benchmarks.scaling [--quick] [--session NAME] [--json FILE]

Channels: how long a deployment takes to start, what it takes of shared memory and descriptors, and what it carries at
QoS 1, the messages spread over all of them. Payloads: what it carries, and a round trip. Filters: what matching a topic
costs, beside a matcher that tries them one by one; and messages received per second where one of so many filters
matches, by the session alone and by an app whose every filter is a channel. The contest is that of `throughput.py`.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import msgspec
import trio

if not __package__:  # started as a file: then this folder is where imports are looked for, not the project's
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.contest import Contest, Contestant, Entry, Flooded, open_contest
from benchmarks.mosquitto import find_mosquitto
from benchmarks.report import grid, machine, percentile
from benchmarks.throughput import SESSIONS
from taktora_trio.connectors.mqtt.topics import FilterTree, covers, minimal_filters

__all__ = ["ByChannels", "ByFilters", "ByPayload", "Scaling", "main", "measure_scaling"]

CHANNELS = (1, 10, 100, 1_000)
PAYLOADS = (100, 2**10, 16 * 2**10, 128 * 2**10, 2**20)
FILTERS = (1, 100, 1_000, 10_000)
_WINDOW_BYTES = 4 * 2**20  # what a channel's window may hold, where its payloads are large
_PER_CHANNEL = 17  # descriptors in each half; a little more than was measured, to tell what can't be started here


@attrs.frozen(kw_only=True)
class Effort:
    """The amounts to measure, which decide how long it takes."""

    channels: Sequence[int]
    filter_channels: Sequence[int]
    """The numbers of filters that are tried as channels of an app."""
    rounds: int
    messages: int
    """The number of messages in each flood."""
    megabytes: int
    """The greatest size of a flood of large payloads, in MB."""
    trips: int


QUICK = Effort(channels=(1, 10, 100), filter_channels=(1, 100), rounds=1, messages=2_000, megabytes=32, trips=50)
FULL = Effort(channels=CHANNELS, filter_channels=(1, 100, 1_000), rounds=3, messages=8_000, megabytes=128, trips=200)


@attrs.frozen(kw_only=True)
class ByChannels:
    channels: int
    start_seconds: float
    """The time from the command to an app that has all its writers open and sees its connector up."""
    shared_bytes: int
    descriptors: dict[str, int]
    """By half."""
    resident_bytes: dict[str, int]
    """By half."""
    rate: float
    """Messages a second at QoS 1."""
    cpu: dict[str, float]
    """The CPU time in us for each message, by process."""


@attrs.frozen(kw_only=True)
class ByPayload:
    payload: int
    """Bytes."""
    rate: float
    session_rate: float
    """The same by the session alone."""
    p50: float
    """Round trip, in us."""
    session_p50: float
    cpu: dict[str, float]


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


@attrs.frozen(kw_only=True)
class Scaling:
    machine: str
    session: str
    channels: list[ByChannels]
    payloads: list[ByPayload]
    filters: list[ByFilters]
    left_out: list[str]
    """Remarks for people: what this machine did not allow."""


async def measure_scaling(effort: Effort, session: str, where: str) -> Scaling:
    """Measure one deployment after the other, each with a broker that has nothing else to do."""
    left_out: list[str] = []
    async with open_contest() as contest:
        channels = [
            await _by_channels(contest, count, effort, session)
            for count in effort.channels
            if _may_open(count, "channels", left_out)
        ]
        payloads = [await _by_payload(contest, size, effort, session) for size in PAYLOADS]
        filters = [await _by_filters(contest, count, effort, session, left_out) for count in FILTERS]
    return Scaling(
        machine=where, session=session, channels=channels, payloads=payloads, filters=filters, left_out=left_out
    )


def _may_open(count: int, what: str, left_out: list[str]) -> bool:
    limit, needed = resource.getrlimit(resource.RLIMIT_NOFILE)[0], count * _PER_CHANNEL + 100
    if needed > limit:
        left_out.append(
            f"{count:,} {what}: each half needs {needed:,} descriptors; here it may have {limit:,} (ulimit -n)"
        )
    return needed <= limit


async def _by_channels(contest: Contest, count: int, effort: Effort, session: str) -> ByChannels:
    options = {"channels": count, "qos": (1,), "session": session}
    start = trio.current_time()
    async with contest.open(Entry(f"channels-{count}", "through_gateway", "split", options)) as one:
        started = trio.current_time() - start
        floods = await _flood(one, max(effort.messages // count, 2), 100, effort.rounds)
        pids = {half: pid for half, (pid, *_) in one.pids.items() if half != "broker"}
        assert one.domain is not None
        return ByChannels(
            channels=count,
            start_seconds=started,
            shared_bytes=sum(path.stat().st_blocks * 512 for path in one.domain.files()),
            descriptors={half: len(os.listdir(f"/proc/{pid}/fd")) for half, pid in pids.items()},
            resident_bytes={half: _resident(pid) for half, pid in pids.items()},
            rate=statistics.median(flood.rate for flood in floods),
            cpu=_medians(floods),
        )


async def _by_payload(contest: Contest, size: int, effort: Effort, session: str) -> ByPayload:
    window = max(min(64, _WINDOW_BYTES // size), 4)
    options = {"max_payload": size, "window": window, "qos": (1,), "session": session}
    count = max(min(effort.messages, effort.megabytes * 10**6 // size), 20)
    trips = max(min(effort.trips, effort.megabytes * 10**6 // size), 20)
    async with (
        contest.open(Entry(f"payload-{size}", "through_gateway", "split", options)) as ours,
        contest.open(Entry(f"payload-{size}-session", "session_directly", None, options)) as alone,
    ):
        our_floods, their_floods, our_trips, their_trips = [], [], [], []
        for _ in range(effort.rounds):
            our_floods += await _flood(ours, count, size, 1)
            their_floods += await _flood(alone, count, size, 1)
            our_trips.append(percentile(await ours.trips(trips, size), 0.5))
            their_trips.append(percentile(await alone.trips(trips, size), 0.5))
    return ByPayload(
        payload=size,
        rate=statistics.median(flood.rate for flood in our_floods),
        session_rate=statistics.median(flood.rate for flood in their_floods),
        p50=statistics.median(our_trips),
        session_p50=statistics.median(their_trips),
        cpu=_medians(our_floods),
    )


async def _by_filters(contest: Contest, count: int, effort: Effort, session: str, left_out: list[str]) -> ByFilters:
    tree, naive, minimal = _matching(count)
    options = {"filters": count, "qos": (), "session": session}
    async with contest.open(Entry(f"filters-{count}-session", "session_directly", None, options)) as alone:
        session_rate = await _inflow(alone, effort)
    app_rate = app_start = None
    if count in effort.filter_channels and _may_open(count, "filters as channels", left_out):
        start = trio.current_time()
        async with contest.open(Entry(f"filters-{count}", "through_gateway", "split", options)) as ours:
            app_start = trio.current_time() - start
            app_rate = await _inflow(ours, effort)
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


async def _flood(one: Contestant, count: int, length: int, rounds: int) -> list[Flooded]:
    await one.flood(1, max(count // 10, 1), length)
    return [await one.flood(1, count, length) for _ in range(rounds)]


async def _inflow(one: Contestant, effort: Effort) -> float:
    await one.inflow(effort.messages // 10)
    return statistics.median([(await one.inflow(effort.messages)).rate for _ in range(effort.rounds)])


def _medians(floods: Sequence[Flooded]) -> dict[str, float]:
    return {name: statistics.median(flood.cpu[name] for flood in floods) for name in floods[0].cpu}


def _resident(pid: int) -> int:
    """Return the resident size, the second figure of proc_pid_statm(5)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def tables(scaling: Scaling) -> str:
    """Return the figures as tables, for people."""
    channels = [
        [
            *("channels", "start, s", "shared, MB", "descriptors a half", "resident app, MB", "gateway, MB"),
            *("QoS 1, msg/s", "CPU us/msg: app", "gateway", "broker"),
        ]
    ]
    channels += [
        [
            *(f"{it.channels:,}", f"{it.start_seconds:.1f}", f"{it.shared_bytes / 1e6:.1f}"),
            f"{max(it.descriptors.values()):,}",
            *(f"{it.resident_bytes[half] / 1e6:.0f}" for half in ("app", "gateway")),
            f"{it.rate:,.0f}",
            *(f"{it.cpu[name]:.1f}" for name in ("app", "gateway", "broker")),
        ]
        for it in scaling.channels
    ]
    payloads = [
        [
            *("payload, bytes", "QoS 1, msg/s", "MB/s", "session alone, msg/s", "MB/s", "round trip p50, us"),
            *("session alone, us", "CPU us/msg: app", "gateway", "broker"),
        ]
    ]
    payloads += [
        [
            f"{it.payload:,}",
            *(f"{it.rate:,.0f}", f"{it.rate * it.payload / 1e6:,.1f}"),
            *(f"{it.session_rate:,.0f}", f"{it.session_rate * it.payload / 1e6:,.1f}"),
            *(f"{it.p50:,.0f}", f"{it.session_p50:,.0f}"),
            *(f"{it.cpu[name]:,.1f}" for name in ("app", "gateway", "broker")),
        ]
        for it in scaling.payloads
    ]
    filters = [
        [
            *("filters", "match, us", "one by one, us", "choose what to subscribe, ms"),
            *("received by the session, msg/s", "by an app, msg/s", "its start, s"),
        ]
    ]
    filters += [
        [
            *(f"{it.filters:,}", f"{it.tree:.1f}", f"{it.naive:,.1f}", _or_dash(it.minimal, "{:,.1f}")),
            *(f"{it.session_rate:,.0f}", _or_dash(it.app_rate, "{:,.0f}"), _or_dash(it.app_start_seconds, "{:.1f}")),
        ]
        for it in scaling.filters
    ]
    return "\n\n".join(
        [scaling.machine, *map(grid, (channels, payloads, filters)), *(f"Left out: {why}" for why in scaling.left_out)]
    )


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="less of it: a minute instead of eight")
    parser.add_argument("--session", default=SESSIONS[0], choices=SESSIONS, help="the gateway's (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured, for `scaling_plot`")
    options = parser.parse_args()
    find_mosquitto()
    scaling = trio.run(measure_scaling, QUICK if options.quick else FULL, options.session, machine())
    print(tables(scaling))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(scaling)) + b"\n")


if __name__ == "__main__":
    main()
