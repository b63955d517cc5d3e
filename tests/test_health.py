from __future__ import annotations

import contextlib
import gc
import logging
import re
import weakref
from collections.abc import Callable
from copy import copy
from itertools import pairwise, product
from pathlib import Path
from typing import TypeAlias

import attrs
import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio.health import (
    TRANSITIONS,
    Connecting,
    ConnectorHealth,
    Degraded,
    Down,
    Failure,
    HealthBoard,
    HealthEvent,
    HealthEvents,
    IllegalTransition,
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


async def test_a_newer_figure_takes_the_place_of_the_one_before_it() -> None:
    told: list[HealthEvent] = []
    board = HealthBoard(["mqtt"], on_event=told.append)
    board.report("mqtt", Up())
    reasons = [("2 lost", None), ("slow", None), ("4 lost", "2 lost"), ("4 lost", "4 lost"), ("slow", "fast")]
    for reason, before in reasons:
        board.degrade("mqtt", reason, 9, instead_of=before)
    shown = [after for _, after in pairs(told)[1:]]
    assert shown == ["Degraded (2 lost)", "Degraded (2 lost; slow)", "Degraded (4 lost; slow)"]


@pytest.mark.parametrize("state", [Down("gone"), Connecting()])
async def test_losing_the_connection_clears_degradations(state: ConnectorHealth, autojump_clock: MockClock) -> None:
    told: list[HealthEvent] = []
    board = HealthBoard(["mqtt"], on_event=told.append)
    board.report("mqtt", Up())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.expire)
        board.degrade("mqtt", "full", 60)
        board.report("mqtt", state)
        board.report("mqtt", Connecting())
        board.report("mqtt", Up())
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert pairs(told)[1:3] == [("Up", "Degraded (full)"), ("Degraded (full)", str(state))]
    assert pairs(told)[-1] == ("Connecting", "Up")


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
        board.report("mqtt", Connecting())
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


async def test_a_subscription_knows_the_states_it_starts_from() -> None:
    board = HealthBoard(["a", "b"])
    board.report("a", Up())
    late = board.events()
    board.report("b", Down("gone"))
    assert late.initial == {"a": Up(), "b": Connecting()}
    assert pairs(drained(late)) == [("Connecting", "Down (gone)")]


def table_in(text: str) -> set[tuple[str, str]]:
    """Return the pairs of the table under "Transitions"; a cell may name several states."""
    section = text.partition("## Transitions")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    return {pair for row in rows for pair in product(*(re.findall(r"`(\w+)`", cell) for cell in row[1:3]))}


def test_the_documented_transitions_are_those_of_the_code() -> None:
    documented = table_in((Path(__file__).parent.parent / "docs" / "health.md").read_text())
    assert documented == {(before.__name__, after.__name__) for before, after in TRANSITIONS}


WAYS: dict[type[ConnectorHealth], ConnectorHealth] = {
    Up: Up(),
    Connecting: Connecting(),
    Degraded: Degraded("slow"),
    Down: Down("gone"),
}
OTHERS = {**WAYS, Degraded: Degraded("lost"), Down: Down("refused")}


@pytest.mark.parametrize(("before", "after"), list(product(WAYS, WAYS)))
@pytest.mark.parametrize("strict", [True, False])
def test_a_transition_takes_place_if_it_is_legal_and_else_raises_or_is_logged(
    before: type[ConnectorHealth],
    after: type[ConnectorHealth],
    strict: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TAKTORA_STRICT", "1" if strict else "")
    told: list[HealthEvent] = []
    board = HealthBoard(["mqtt"], on_event=told.append)
    board.report("mqtt", WAYS[before])
    subscription = board.events()
    told.clear()
    illegal = (before, after) in {(Down, Up), (Down, Degraded)}
    refused = illegal and strict
    with pytest.raises(IllegalTransition, match="mqtt can't go from Down") if refused else contextlib.nullcontext():
        board.report("mqtt", OTHERS[after])
    if refused or WAYS[before] == OTHERS[after]:
        assert board.state("mqtt") is WAYS[before] or before is Connecting
        assert told == []
    else:
        assert board.state("mqtt") == OTHERS[after]
        assert pairs(told) == [(str(WAYS[before]), str(OTHERS[after]))]
    assert drained(subscription) == told
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert bool(logged) == (illegal and not strict)


async def test_what_an_illegal_report_would_have_changed_stays_too(autojump_clock: MockClock) -> None:
    board = HealthBoard(["mqtt"])
    board.report("mqtt", Down("gone"))
    with pytest.raises(IllegalTransition):
        board.report("mqtt", Up())
    board.degrade("mqtt", "full", 1)  # shows only over a base of `Up`
    assert board.state("mqtt") == Down("gone")


async def test_a_report_made_by_on_event_comes_after_the_event_for_everybody() -> None:
    told: list[HealthEvent] = []

    def on_event(event: HealthEvent) -> None:
        if event.after == Up():
            board.report("mqtt", Degraded("slow"))
            board.report("mqtt", Down("gone"))
        elif event.after == Down("gone"):
            board.report("mqtt", Connecting())
        told.append(event)

    board = HealthBoard(["mqtt"], on_event=on_event)
    subscription = board.events()
    board.report("mqtt", Up())
    assert [str(event.after) for event in told] == ["Up", "Degraded (slow)", "Down (gone)", "Connecting"]
    assert drained(subscription) == told


async def test_an_exception_of_on_event_comes_when_everybody_knows() -> None:
    told: list[str] = []

    def on_event(event: HealthEvent) -> None:
        told.append(str(event.after))
        if event.after == Up():
            board.report("mqtt", Connecting())
            board.report("mqtt", Down("gone"))
            raise LookupError("of Up")
        if event.after == Connecting():
            raise ValueError("of Connecting")

    board = HealthBoard(["mqtt"], on_event=on_event)
    subscription = board.events()
    waited: list[ConnectorHealth] = []

    async def wait() -> None:
        waited.append(await board.wait_for("mqtt", Down))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        with pytest.raises(ValueError, match="of Connecting") as caught:
            board.report("mqtt", Up())
    assert isinstance(caught.value.__context__, LookupError), "neither is lost"
    assert told == ["Up", "Connecting", "Down (gone)"]
    assert [str(event.after) for event in drained(subscription)] == told
    assert board.state("mqtt") == Down("gone")
    assert waited == [Down("gone")]


async def test_wait_for_returns_what_is_so_when_it_returns(autojump_clock: MockClock) -> None:
    board = HealthBoard(["mqtt"])
    states: list[tuple[ConnectorHealth, ConnectorHealth]] = []

    async def wait() -> None:
        returned = await board.wait_for("mqtt", Connecting)
        states.append((returned, board.state("mqtt")))

    async def report() -> None:
        board.report("mqtt", Up())
        await trio.sleep(1)
        board.report("mqtt", Connecting())

    async with trio.open_nursery() as nursery:
        for _ in range(10):  # trio shuffles tasks: some look before the report and some after it
            nursery.start_soon(wait)
        nursery.start_soon(report)
        for _ in range(10):
            nursery.start_soon(wait)
    assert states == [(Connecting(), Connecting())] * 20


FAILURE = Failure(
    kind="signal",
    description="killed by SIGKILL",
    incarnation=3,
    uptime=12.125,
    at=1000.0,
    delay=0.2,
    attempts_left=8,
    stderr_tail=("connected", "about to \u2026"),
)


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        (
            FAILURE,
            "incarnation 3 ended 12.1 s after it was ready: killed by SIGKILL; "
            "starts again 0.20 s later (8 more attempts after that)",
        ),
        (
            attrs.evolve(FAILURE, kind="exit", description="exit code 1", uptime=0.0, attempts_left=1),
            "incarnation 3 ended before it was ready: exit code 1; "
            "starts again 0.20 s later (1 more attempt after that)",
        ),
        (
            attrs.evolve(FAILURE, attempts_left=0),
            "incarnation 3 ended 12.1 s after it was ready: killed by SIGKILL; "
            "starts again 0.20 s later (none after that)",
        ),
        (
            attrs.evolve(FAILURE, delay=None, attempts_left=0, gave_up="it ended 11 times within 60 s of uptime"),
            "incarnation 3 ended 12.1 s after it was ready: killed by SIGKILL; "
            "given up: it ended 11 times within 60 s of uptime",
        ),
        (
            attrs.evolve(FAILURE, delay=None),
            "incarnation 3 ended 12.1 s after it was ready: killed by SIGKILL; given up",
        ),
    ],
)
def test_a_failure_is_one_line_and_survives_encoding(failure: Failure, line: str) -> None:
    assert str(failure) == line
    assert msgspec.json.decode(msgspec.json.encode(failure), type=Failure) == failure
    down = Down("gone", since=2.0, failure=failure)
    assert msgspec.json.decode(msgspec.json.encode(down), type=Down).failure == failure
    assert str(down) == "Down (gone)"


def test_the_next_attempt_is_a_delay_after_the_end() -> None:
    assert FAILURE.next_attempt == 1000.2
    assert attrs.evolve(FAILURE, delay=None).next_attempt is None


async def test_a_failure_does_not_count_in_comparisons_but_the_newest_is_shown() -> None:
    assert Down("gone", failure=FAILURE) == Down("gone")
    board = HealthBoard(["mqtt"])
    subscription = board.events()
    board.report("mqtt", Down("gone", since=1.0))
    board.report("mqtt", Down("gone", since=2.0, failure=FAILURE))
    given_up = attrs.evolve(FAILURE, delay=None, gave_up="enough")
    board.report("mqtt", Down("gone", failure=given_up))
    board.report("mqtt", Down("gone"))
    state = board.state("mqtt")
    assert isinstance(state, Down)
    assert (state.failure, state.since) == (given_up, 1.0)
    assert pairs(drained(subscription)) == [("Connecting", "Down (gone)")]


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
                    case Up() | Degraded() if isinstance(base, Down):
                        with pytest.raises(IllegalTransition):
                            board.report("mqtt", operation)
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


class Walk:
    """A subscription, followed: every event must start where the last one ended, and lead somewhere legal."""

    def __init__(self, board: HealthBoard, skipped: int) -> None:
        self.events = board.events()
        self.skipped = skipped
        self.seen: list[HealthEvent] = []
        self.states = dict(self.events.initial)

    def follow(self) -> None:
        for event in drained(self.events):
            assert event.before == self.states[event.component]
            assert event.before != event.after
            assert (type(event.before), type(event.after)) in TRANSITIONS
            self.states[event.component] = event.after
            self.seen.append(event)


class ReactionError(Exception):
    """Raised by the machine's `on_event`."""


COMPONENTS = st.sampled_from(["a", "b"])


class BoardMachine(RuleBasedStateMachine):
    """Reports, degradations and subscriptions in any order, made by an `on_event` too, which may also raise."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[HealthEvent] = []
        self.reactions: list[Callable[[], object]] = []
        self.board = HealthBoard(["a", "b"], on_event=self.on_event)
        self.whole = Walk(self.board, 0)
        self.walks: list[Walk] = []

    def on_event(self, event: HealthEvent) -> None:
        try:
            if self.reactions:
                self.reactions.pop(0)()
        finally:
            self.told.append(event)

    def report_legally(self, component: str, state: ConnectorHealth) -> None:
        if isinstance(self.board.state(component), Down) and isinstance(state, Up | Degraded):
            self.board.report(component, Connecting())
            if isinstance(self.board.state(component), Down):
                return  # a reaction to `Connecting` has brought it down again
        self.board.report(component, state)

    def open(self) -> None:
        self.whole.follow()
        self.walks.append(Walk(self.board, len(self.whole.seen)))

    def close(self, index: int) -> None:
        if self.walks:
            walk = self.walks.pop(index % len(self.walks))
            walk.follow()
            walk.events.close()
            with pytest.raises(trio.ClosedResourceError):
                walk.events.receive_nowait()

    def fail(self) -> None:
        raise ReactionError

    @rule(component=COMPONENTS, state=STATES)
    def report(self, component: str, state: ConnectorHealth) -> None:
        with contextlib.suppress(ReactionError):
            self.report_legally(component, state)

    @precondition(lambda self: Down("gone") in self.board.states().values())
    @rule(state=st.sampled_from([Up(), Degraded("full")]))
    def report_illegally(self, state: ConnectorHealth) -> None:
        before = self.board.states()
        down = next(name for name, present in before.items() if present == Down("gone"))
        with pytest.raises(IllegalTransition):
            self.board.report(down, state)
        assert self.board.states() == before

    @rule(component=COMPONENTS, reason=REASONS, seconds=st.integers(1, 5))
    def degrade(self, component: str, reason: str, seconds: int) -> None:
        with contextlib.suppress(ReactionError):
            self.board.degrade(component, reason, seconds)

    @rule(seconds=st.integers(1, 5))
    def expire(self, seconds: int) -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        clock.jump(seconds)
        with contextlib.suppress(ReactionError):
            assert self.board._end_what_is_over() > trio.current_time()

    @rule()
    def subscribe(self) -> None:
        self.open()

    @rule(index=st.integers(0, 9))
    def unsubscribe(self, index: int) -> None:
        self.close(index)

    @rule(component=COMPONENTS, state=STATES)
    def report_in_reaction(self, component: str, state: ConnectorHealth) -> None:
        self.reactions.append(lambda: self.report_legally(component, state))

    @rule(component=COMPONENTS, reason=REASONS, seconds=st.integers(1, 5))
    def degrade_in_reaction(self, component: str, reason: str, seconds: int) -> None:
        self.reactions.append(lambda: self.board.degrade(component, reason, seconds))

    @rule(index=st.integers(0, 9))
    def change_subscriptions_in_reaction(self, index: int) -> None:
        self.reactions += [self.open, lambda: self.close(index)]

    @rule()
    def raise_in_reaction(self) -> None:
        self.reactions.append(self.fail)

    @invariant()
    def everybody_was_led_to_the_present_states_by_the_same_events(self) -> None:
        for walk in [self.whole, *self.walks]:
            walk.follow()
            assert walk.states == self.board.states()
            assert walk.seen == self.told[walk.skipped :]

    def teardown(self) -> None:
        self.board.close()
        for walk in [self.whole, *self.walks]:
            with pytest.raises(trio.EndOfChannel):
                walk.events.receive_nowait()


def test_whatever_happens_each_subscription_is_a_chain_to_the_present_state() -> None:
    async def main() -> None:  # trio's clock is all that the machine needs of trio
        run_state_machine_as_test(
            BoardMachine, settings=settings(deadline=None, max_examples=100, stateful_step_count=40)
        )

    trio.run(main, clock=MockClock())


async def test_tasks_that_report_in_turns_and_readers_that_come_and_go(autojump_clock: MockClock) -> None:
    board = HealthBoard(["mqtt"])
    whole = Walk(board, 0)
    read: list[tuple[Walk, int]] = []

    async def report(number: int) -> None:
        for turn in range(50):
            board.report("mqtt", Connecting())
            await trio.lowlevel.checkpoint()
            if not isinstance(board.state("mqtt"), Down):
                board.report("mqtt", Up())
            await trio.lowlevel.checkpoint()
            board.report("mqtt", Down(f"task {number}, turn {turn}"))
            await trio.sleep(number)

    async def read_some(start: float, count: int) -> None:
        await trio.sleep(start)
        whole.follow()
        walk = Walk(board, len(whole.seen))
        async for event in walk.events:
            walk.seen.append(event)
            if len(walk.seen) == count:
                walk.events.close()
                break
        read.append((walk, count))

    with trio.fail_after(1000):
        async with trio.open_nursery() as readers:
            for start in range(20):
                readers.start_soon(read_some, start, 3 * start + 1)
                readers.start_soon(read_some, start, 10_000)  # stays until the end
            async with trio.open_nursery() as reporters:
                reporters.start_soon(report, 1)
                reporters.start_soon(report, 2)
            whole.follow()
            board.close()
    assert len(read) == 40
    for walk, count in read:
        assert walk.seen == whole.seen[walk.skipped :][:count] != []


def test_the_board_keeps_no_exception() -> None:
    """It would keep its traceback, and with that all that was running when it was raised."""

    class Reset(OSError):
        pass

    board = HealthBoard(["mqtt"])
    cause = Reset("by peer")
    kept = weakref.ref(cause)
    board.report("mqtt", Down("crashed"), cause)
    assert board.base("mqtt") == (Down("crashed"), "Reset: by peer")
    del cause
    gc.collect()
    assert kept() is None
