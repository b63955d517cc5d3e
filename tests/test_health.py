from __future__ import annotations

import gc
import weakref
from copy import copy
from itertools import pairwise
from typing import TypeAlias

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio.health import (
    Connecting,
    ConnectorHealth,
    Degraded,
    Down,
    HealthBoard,
    HealthEvent,
    HealthEvents,
    Up,
)


def pairs(events: list[HealthEvent]) -> list[tuple[str, str]]:
    return [(str(event.before), str(event.after)) for event in events]


def drained(subscription: HealthEvents) -> list[HealthEvent]:
    events = []
    while True:
        try:
            events.append(subscription.receive_nowait())
        except trio.WouldBlock:
            return events


async def collect(subscription: HealthEvents, record: list[tuple[str, float]]) -> None:
    async for event in subscription:
        record += [(str(event.after), trio.current_time())]


async def test_every_transition_is_one_event_in_order_for_every_subscriber() -> None:
    told: list[HealthEvent] = []
    board = HealthBoard(["mqtt"], on_event=told.append)
    first, second = board.events(), board.events()
    cause = OSError("reset")
    board.report("mqtt", Up())
    board.report("mqtt", Connecting(), cause)
    board.report("mqtt", Down("refused"))
    assert pairs(told) == [("Connecting", "Up"), ("Up", "Connecting"), ("Connecting", "Down (refused)")]
    assert [event.cause for event in told] == [None, cause, None]
    assert {event.component for event in told} == {"mqtt"}
    assert drained(first) == told
    assert drained(second) == told


async def test_a_subscription_sees_what_comes_after_it_and_reads_at_its_own_pace(autojump_clock: MockClock) -> None:
    board = HealthBoard(["mqtt"])
    slow = board.events()
    board.report("mqtt", Up())
    late = board.events()
    record: list[tuple[str, float]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, late, record)
        await trio.sleep(1)
        board.report("mqtt", Down("gone"))
        await trio.sleep(1)
        board.close()
    assert record == [("Down (gone)", 1.0)]
    assert pairs([event async for event in slow]) == [("Connecting", "Up"), ("Up", "Down (gone)")]


@pytest.mark.parametrize("state", [Up(), Connecting(), Degraded("slow"), Down("gone")])
async def test_an_equal_state_is_no_event(state: ConnectorHealth) -> None:
    board = HealthBoard(["mqtt"])
    board.report("mqtt", state)
    subscription = board.events()
    board.report("mqtt", copy(state))
    assert drained(subscription) == []


def test_since_does_not_count_in_comparisons_but_reasons_do() -> None:
    assert Down("a", since=1.0) == Down("a", since=2.0)
    assert Connecting(since=1.0) == Connecting(since=2.0)
    assert Down("a") != Down("b")
    assert Degraded("a") != Degraded("b")


def test_components_are_told_apart() -> None:
    told: list[HealthEvent] = []
    board = HealthBoard(["a", "b"], on_event=told.append)
    board.report("b", Up())
    assert [event.component for event in told] == ["b"]
    assert board.states() == {"a": Connecting(), "b": Up()}
    assert repr(board) == "HealthBoard(a=Connecting, b=Up)"
    with pytest.raises(KeyError):
        board.report("c", Up())
    with pytest.raises(KeyError):
        board.state("c")


async def test_degradations_lie_over_up_until_each_expires(autojump_clock: MockClock) -> None:
    board = HealthBoard(["mqtt"])
    board.report("mqtt", Up())
    record: list[tuple[str, float]] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(board.expire)
        nursery.start_soon(collect, board.events(), record)
        await wait_all_tasks_blocked()
        board.degrade("mqtt", "full", 2)
        await trio.sleep(0.5)
        board.degrade("mqtt", "lost", 1)
        await trio.sleep(9.5)
        nursery.cancel_scope.cancel()
    assert record == [
        ("Degraded (full)", 0.0),
        ("Degraded (full; lost)", 0.5),
        ("Degraded (full)", 1.5),
        ("Up", 2.0),
    ]


async def test_a_burst_is_one_transition_and_each_renewal_extends_it(autojump_clock: MockClock) -> None:
    board = HealthBoard(["mqtt"])
    board.report("mqtt", Up())
    record: list[tuple[str, float]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.expire)
        nursery.start_soon(collect, board.events(), record)
        await wait_all_tasks_blocked()
        for _ in range(100):
            board.degrade("mqtt", "full", 1)
            await trio.sleep(0.125)
        await trio.sleep(9)
        nursery.cancel_scope.cancel()
    assert record == [("Degraded (full)", 0.0), ("Up", 99 * 0.125 + 1)]


@pytest.mark.parametrize("state", [Down("gone"), Connecting()])
async def test_losing_the_connection_clears_degradations(state: ConnectorHealth, autojump_clock: MockClock) -> None:
    told: list[HealthEvent] = []
    board = HealthBoard(["mqtt"], on_event=told.append)
    board.report("mqtt", Up())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.expire)
        board.degrade("mqtt", "full", 60)
        board.report("mqtt", state)
        board.report("mqtt", Up())
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert pairs(told)[1:] == [("Up", "Degraded (full)"), ("Degraded (full)", str(state)), (str(state), "Up")]


async def test_a_degradation_is_not_shown_while_there_is_no_connection() -> None:
    board = HealthBoard(["mqtt"])
    subscription = board.events()
    board.degrade("mqtt", "full", 1)
    assert board.state("mqtt") == Connecting()
    board.report("mqtt", Up())
    assert pairs(drained(subscription)) == [("Connecting", "Up")]


async def test_wait_for(autojump_clock: MockClock) -> None:
    board = HealthBoard(["mqtt"])
    assert await board.wait_for("mqtt", Connecting) == Connecting()
    record: list[tuple[ConnectorHealth, float]] = []

    async def wait() -> None:
        record.append((await board.wait_for("mqtt", Up, Degraded), trio.current_time()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)
        board.report("mqtt", Down("gone"))
        await trio.sleep(1)
        board.report("mqtt", Up())
    assert record == [(Up(), 2.0)]


async def test_a_dropped_subscription_is_not_leaked() -> None:
    board = HealthBoard(["mqtt"])
    subscription = board.events()
    dropped = weakref.ref(subscription)
    board.report("mqtt", Up())
    del subscription
    gc.collect()
    assert dropped() is None
    board.report("mqtt", Down("gone"))


async def test_a_closed_subscription_gets_nothing_more() -> None:
    board = HealthBoard(["mqtt"])
    other = board.events()
    async with board.events() as subscription:
        board.report("mqtt", Up())
    board.report("mqtt", Down("gone"))
    with pytest.raises(trio.ClosedResourceError):
        subscription.receive_nowait()
    assert len(drained(other)) == 2


async def test_close_ends_iterations_after_what_was_not_read_yet(autojump_clock: MockClock) -> None:
    board = HealthBoard(["mqtt"])
    unread = board.events()
    record: list[tuple[str, float]] = []
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect, board.events(), record)
            await wait_all_tasks_blocked()
            board.report("mqtt", Up())
            await trio.sleep(1)
            board.close()
        unread_events = [event async for event in unread]
    assert record == [("Up", 0.0)]
    assert pairs(unread_events) == [("Connecting", "Up")]


async def test_a_report_after_close_is_taken_and_a_later_subscription_ends_at_once(autojump_clock: MockClock) -> None:
    board = HealthBoard(["mqtt"])
    early = board.events()
    board.close()
    board.report("mqtt", Down("stopped"))  # a task that ends with its owner may be the last to speak
    assert board.state("mqtt") == Down("stopped")
    late = board.events()
    with trio.fail_after(10):
        assert [event async for event in early] == []
        assert [event async for event in late] == []


REASONS = st.sampled_from(["full", "lost"])
STATES: st.SearchStrategy[ConnectorHealth] = st.one_of(
    st.just(Up()), st.builds(Connecting), st.builds(Degraded, REASONS), st.builds(Down, st.sampled_from(["gone", "no"]))
)
Operation: TypeAlias = ConnectorHealth | tuple[str, int] | int
OPERATIONS: st.SearchStrategy[list[Operation]] = st.lists(
    st.one_of(STATES, st.tuples(REASONS, st.integers(1, 5)), st.integers(1, 5)), max_size=20
)


@settings(deadline=None, max_examples=150)
@given(OPERATIONS)
def test_events_are_exactly_the_changes_of_a_naive_model(operations: list[Operation]) -> None:
    """A state is reported, a tuple degrades for so many seconds, a number lets so many seconds pass."""

    async def main() -> None:
        seen: list[ConnectorHealth] = []
        board = HealthBoard(["mqtt"], on_event=lambda event: seen.append(board.state("mqtt")))
        subscription = board.events()
        base: ConnectorHealth = Connecting()
        until: dict[str, float] = {}

        def shown() -> ConnectorHealth:
            reasons = [reason for reason, end in until.items() if end > trio.current_time()]
            if isinstance(base, Degraded):
                reasons.insert(0, base.reason)
            return Degraded("; ".join(reasons)) if reasons and isinstance(base, Up | Degraded) else base

        expected = [shown()]
        async with trio.open_nursery() as nursery:
            await nursery.start(board.expire)
            for operation in operations:
                match operation:
                    case (reason, seconds):
                        board.degrade("mqtt", reason, seconds)
                        if isinstance(base, Up | Degraded):
                            until[reason] = trio.current_time() + seconds
                    case int():
                        for _ in range(operation):
                            await trio.sleep(1)
                            await wait_all_tasks_blocked()
                            for reason in [reason for reason, end in until.items() if end <= trio.current_time()]:
                                del until[reason]
                            expected.append(shown())
                    case state:
                        board.report("mqtt", state)
                        base = state
                        if not isinstance(state, Up | Degraded):
                            until.clear()
                assert board.state("mqtt") == shown()
                expected.append(shown())
            nursery.cancel_scope.cancel()
        events = drained(subscription)
        changes = [after for before, after in pairwise(expected) if before != after]
        assert [event.after for event in events] == seen == changes
        chain = [Connecting(), *changes]
        assert [(event.before, event.after) for event in events] == list(pairwise(chain))

    trio.run(main, clock=MockClock(autojump_threshold=0))
