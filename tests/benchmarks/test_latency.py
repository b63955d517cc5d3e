"""The pure parts of the open loop: the schedule, what a stall does to it, percentiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import message
from benchmarks.arrivals import Latencies
from benchmarks.contest import Kept
from benchmarks.counter import Wrong
from benchmarks.latency import AtRate
from benchmarks.peers.control import Paced
from benchmarks.peers.pace import Schedule

MS = 1_000_000


class Clock:
    """Goes by hand, in ns."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def order(count: int, until: int = 10**12) -> Paced:
    return Paced(qos=1, first=1, count=count, length=100, start=10 * MS, interval=MS, until=until)


def numbers(payloads: list[bytes]) -> list[int]:
    return [message.read_text(payload)[0] for payload in payloads]


def test_what_is_due_is_taken_and_nothing_before_it_is() -> None:
    clock = Clock()
    schedule = Schedule(order(4), clock)
    assert list(schedule.take()) == []
    clock.now = 11 * MS
    taken = list(schedule.take())
    assert [message.read_due(payload) for payload in taken] == [10 * MS, 11 * MS]
    assert schedule.due == 12 * MS
    assert not schedule.over
    clock.now = 99 * MS
    taken += schedule.take(1)
    taken += schedule.take()
    assert [message.read_text(payload) for payload in taken] == [(1, False), (2, False), (3, False), (4, True)]
    assert all(len(payload) == 100 for payload in taken)
    assert schedule.over
    assert schedule.sent == 4


def test_when_its_time_is_over_the_next_is_the_last() -> None:
    clock = Clock()
    schedule = Schedule(order(1_000, until=20 * MS), clock)
    clock.now = 12 * MS
    assert numbers(list(schedule.take())) == [1, 2, 3]
    clock.now = 500 * MS
    assert [message.read_text(payload) for payload in schedule.take()] == [(4, True)]
    assert schedule.over
    assert schedule.sent == 4


def test_a_sender_that_stalls_makes_all_late_that_were_due_meanwhile(tmp_path: Path) -> None:
    """A closed loop would have seen one message of 100 ms and the rest of none: coordinated omission."""
    clock, latencies = Clock(), Latencies("topic")
    schedule = Schedule(order(200), clock)
    for now in [*range(10, 60), *range(160, 260)]:  # from 60 to 160 ms the sender stands still
        clock.now = now * MS
        for payload in schedule.take(most=1_000):
            latencies.take(payload, clock.now)  # arrives at once
    it = AtRate.of(
        "stalled", [Kept(1_000, 1_000, 200, 0, [ns / MS for ns in latencies.write(tmp_path, 0).read()], {"app": 1})]
    )
    assert it.latencies[-1] == 100
    assert sum(late > 0 for late in it.latencies) == 100
    assert it.latency(0.5) == 0
    assert it.latency(0.9) == 80
    assert it.latency(0.99) == 98
    assert it.kept_up


def test_the_last_ends_an_order_and_the_numbers_are_checked(tmp_path: Path) -> None:
    latencies = Latencies("a/b")
    assert latencies.take(message.scheduled(1, 5), 7) is False
    assert latencies.take(message.scheduled(2, 5, last=True), 9) is True
    arrived = latencies.write(tmp_path, 9)
    assert (arrived.topic, arrived.at, list(arrived.read())) == ("a/b", 9, [2, 4])
    assert list(tmp_path.iterdir()) == []
    assert latencies.take(message.scheduled(4, 5), 7) == Wrong("a/b", 4, 3)


@pytest.mark.parametrize(("count", "share", "known"), [(99, 0.99, False), (100, 0.99, True), (10_000, 0.9999, True)])
def test_a_percentile_beyond_all_messages_is_not_told(count: int, share: float, known: bool) -> None:
    it = AtRate.of("x", [Kept(1, 1, count, 0, list(range(count)), {})])
    assert (it.latency(share) is not None) is known


def test_what_was_not_sent_does_not_keep_up() -> None:
    rounds = [Kept(100, 100, 3, 0, [1, 2, 3], {"app": 4}), Kept(100, 98, 3, 1, [4, 5, 6], {"app": 6})]
    it = AtRate.of("x", rounds)
    assert not it.kept_up
    assert it.latencies == [1, 2, 3, 4, 5, 6]
    assert it.cpu == {"app": 5}
    assert it.achieved == 98
