from __future__ import annotations

import copy
from typing import Any, get_args, get_type_hints

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taktora_trio import Backoff, RestartPolicy
from taktora_trio.supervision.engine import (
    Action,
    Ended,
    Escalate,
    Event,
    Finish,
    GiveUp,
    Held,
    Hold,
    Ready,
    Released,
    Replaced,
    Restart,
    Revived,
    Started,
    State,
    Stopped,
    attempts_left,
    step,
)
from tests.supervision.otp import Otp, Verdict

BACKOFF = Backoff(initial=1, maximum=8, factor=2, jitter=0)
POLICY = RestartPolicy(backoff=BACKOFF, intensity=2, period=10)
FAILED, WELL, PERMANENT = Ended(failed=True), Ended(failed=False), Ended(failed=True, permanent=True)
EVENTS = (Started(), Ready(), FAILED, WELL, PERMANENT, Stopped(), Revived(), Replaced(), Held(), Released())

# What each phase makes of each event under POLICY. Whatever is not here changes nothing.
TABLE: dict[str, dict[Event, tuple[str, Action | None]]] = {
    "idle": {
        Held(): ("held", Hold()),
        Started(): ("starting", None),
        Stopped(): ("ended", Finish()),
    },
    "starting": {
        Ready(): ("up", None),
        Held(): ("holding", None),
        FAILED: ("waiting", Restart(1)),
        WELL: ("ended", Finish()),
        PERMANENT: ("given-up", GiveUp("another try would end the same way")),
        Stopped(): ("stopping", None),
        Replaced(): ("replacing", None),
    },
    "up": {
        Held(): ("holding", None),
        FAILED: ("waiting", Restart(1)),
        WELL: ("ended", Finish()),
        PERMANENT: ("given-up", GiveUp("another try would end the same way")),
        Stopped(): ("stopping", None),
        Replaced(): ("replacing", None),
    },
    "waiting": {
        Held(): ("held", Hold()),
        Started(): ("starting", None),
        Stopped(): ("ended", Finish()),
        Replaced(): ("waiting", Restart(0.0)),
    },
    "replacing": {
        FAILED: ("waiting", Restart(0.0)),
        WELL: ("waiting", Restart(0.0)),
        PERMANENT: ("waiting", Restart(0.0)),
        Stopped(): ("stopping", None),
    },
    "holding": {
        FAILED: ("held", Hold()),
        WELL: ("held", Hold()),
        PERMANENT: ("held", Hold()),
        Stopped(): ("stopping", None),
    },
    "held": {
        Released(): ("waiting", Restart(0.0)),
        Stopped(): ("ended", Finish()),
    },
    "stopping": {
        FAILED: ("ended", Finish()),
        WELL: ("ended", Finish()),
        PERMANENT: ("ended", Finish()),
    },
    "ended": {},
    "given-up": {
        Held(): ("held", Hold()),
        Stopped(): ("ended", Finish()),
        Revived(): ("waiting", Restart(0.0)),
        Replaced(): ("waiting", Restart(0.0)),
    },
    "escalated": {
        Replaced(): ("waiting", Restart(0.0)),
    },
}


@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("phase", TABLE)
def test_what_each_phase_makes_of_each_event(phase: Any, event: Event) -> None:
    state = State(phase, incarnation=3, since=7.0)
    after, action = step(POLICY, state, event, 8.0)
    expected = TABLE[phase].get(event)
    if expected is None:
        assert (after, action) == (state, None)
    else:
        assert (after.phase, action) == expected
        assert after.since == 8.0
        assert after.incarnation == (4 if event == Started() else 3)


def test_the_table_is_about_every_phase() -> None:
    assert set(TABLE) == set(get_args(get_type_hints(State)["phase"]))


class Run:
    """An engine that is fed one run after another."""

    def __init__(self, policy: RestartPolicy = POLICY) -> None:
        self.policy = policy
        self.state = State()
        self.now = 0.0

    def step(self, event: Event) -> Action | None:
        self.state, action = step(self.policy, self.state, event, self.now, lambda: 0.5)
        return action

    def run(self, ended: Ended = FAILED, *, starting: float = 0, up: float | None = 0, waiting: float = 0) -> Action:
        """Run one incarnation; `up=None` if it never gets ready."""
        self.now += waiting
        self.step(Started())
        self.now += starting
        if up is not None:
            self.step(Ready())
            self.now += up
        action = self.step(ended)
        assert action is not None
        return action


@pytest.mark.parametrize(
    ("restart", "ended", "expected"),
    [
        ("always", FAILED, Restart(1)),
        ("always", WELL, Restart(1)),
        ("on-failure", FAILED, Restart(1)),
        ("on-failure", WELL, Finish()),
        ("never", FAILED, GiveUp("its policy is never to restart it")),
        ("never", WELL, Finish()),
        ("never", PERMANENT, GiveUp("its policy is never to restart it")),
        ("always", PERMANENT, GiveUp("another try would end the same way")),
    ],
)
def test_what_each_kind_of_restart_decides(restart: Any, ended: Ended, expected: Action) -> None:
    assert Run(attrs.evolve(POLICY, restart=restart)).run(ended) == expected


@pytest.mark.parametrize(
    ("ended", "restart", "expected"),
    [
        (FAILED, "always", Escalate("it ended once within 10 s of uptime")),
        (PERMANENT, "on-failure", Escalate("another try would end the same way")),
        # A temporary child takes nobody with it.
        (FAILED, "never", GiveUp("its policy is never to restart it")),
    ],
)
def test_escalation(ended: Ended, restart: Any, expected: Action) -> None:
    run = Run(attrs.evolve(POLICY, intensity=0, restart=restart, on_exhausted="escalate"))
    assert run.run(ended) == expected
    assert run.state.phase == ("escalated" if isinstance(expected, Escalate) else "given-up")


def test_given_up_after_more_than_intensity_restarts() -> None:
    run = Run()
    assert [run.run() for _ in range(3)] == [
        Restart(1),
        Restart(2),
        GiveUp("it ended 3 times within 10 s of uptime"),
    ]


@pytest.mark.parametrize(
    ("up", "expected"),
    [
        (5.0, [Restart(1), Restart(2), GiveUp("it ended 3 times within 10 s of uptime")]),  # at 5, 10, 15: all count
        (5.125, [Restart(1), Restart(2), Restart(4), Restart(8), Restart(8)]),  # at 5.125, 10.25, 15.375: two do
    ],
)
def test_a_restart_that_is_exactly_a_period_old_still_counts(up: float, expected: list[Action]) -> None:
    run = Run()
    assert [run.run(up=up) for _ in expected] == expected


def test_waiting_and_starting_give_nothing_back() -> None:
    run = Run()
    actions = [run.run(starting=1000, waiting=1000), run.run(starting=1000, up=None), run.run(waiting=1e9)]
    assert actions == [Restart(1), Restart(2), GiveUp("it ended 3 times within 10 s of uptime")]


def test_silence_before_the_end_is_no_uptime() -> None:
    run = Run()
    hang = Ended(failed=True, silent=8)
    # Of 12 seconds each, 4 count: they end at 4, 8 and 12 on the clock of the uptime.
    assert [run.run(hang, up=12) for _ in range(3)] == [
        Restart(1),
        Restart(2),
        GiveUp("it ended 3 times within 10 s of uptime"),
    ]
    assert run.state.uptime == 12
    run = Run()
    run.run(hang, up=5)  # no more than it was up
    assert run.state.uptime == 0


def test_the_backoff_starts_over_after_a_run_as_long_as_the_period() -> None:
    run = Run(attrs.evolve(POLICY, intensity=9))
    assert [run.run(up=up) for up in (0, 0, 9.875, 10, 0)] == [
        Restart(1),
        Restart(2),
        Restart(4),
        Restart(1),
        Restart(2),
    ]


def test_a_revival_gives_back_the_whole_budget_and_the_first_delay() -> None:
    run = Run()
    first = [run.run() for _ in range(3)]
    assert run.step(Revived()) == Restart(0.0)
    assert attempts_left(POLICY, run.state) == 2
    assert [run.run() for _ in range(3)] == first
    assert run.state.incarnation == 6


def test_the_source_of_randomness_can_be_given() -> None:
    policy = RestartPolicy(backoff=Backoff(initial=1, maximum=8, jitter=0.5))
    state, _ = step(policy, State(), Started(), 0.0)
    assert step(policy, state, FAILED, 0.0, lambda: 1.0)[1] == Restart(1.5)
    assert step(policy, state, FAILED, 0.0, lambda: 0.0)[1] == Restart(0.5)


# Against OTP's supervisor

# Multiples of 1/8, so that sums and differences are exact and the bounds are hit.
seconds = st.integers(0, 80).map(lambda eighths: eighths / 8)
policies = st.builds(
    RestartPolicy,
    restart=st.sampled_from(["always", "on-failure", "never"]),
    backoff=st.sampled_from([BACKOFF, Backoff(initial=0.5, maximum=20, factor=3, jitter=0.25)]),
    intensity=st.integers(0, 4),
    period=st.sampled_from([0.125, 1.0, 2.5, 7.0]),
    on_exhausted=st.sampled_from(["give_up", "escalate"]),
)


def verdict(policy: RestartPolicy, action: Action) -> Verdict:
    """Return the engine's, in OTP's words."""
    match action:
        case Restart():
            return "restart"
        case Finish():
            return "finish"
        case GiveUp() | Escalate():
            # A temporary child is gone, its supervisor is not.
            return "finish" if policy.restart == "never" else "shutdown"
        case Hold():
            raise AssertionError("OTP has none, and none was asked for")


@settings(deadline=None)
@given(policies, st.lists(st.tuples(seconds, st.booleans()), max_size=30))
def test_ready_at_once_and_without_delays_it_decides_as_otp(
    policy: RestartPolicy, runs: list[tuple[float, bool]]
) -> None:
    run, otp = Run(policy), Otp(policy.restart, policy.intensity, policy.period)
    for up, failed in runs:
        action = run.run(Ended(failed), up=up)
        assert verdict(policy, action) == otp.ended(failed=failed, now=run.now)
        if not isinstance(action, Restart):
            break


@settings(deadline=None)
@given(policies, st.data())
def test_readiness_alone_never_gives_the_budget_back(policy: RestartPolicy, data: st.DataObject) -> None:
    policy = attrs.evolve(policy, restart="always")
    run = Run(policy)
    long = st.sampled_from([0.0, 1.0, 60.0, 1e4, 1e9])
    for left in reversed(range(policy.intensity)):
        action = run.run(starting=data.draw(long), up=data.draw(st.sampled_from([0.0, None])), waiting=data.draw(long))
        assert isinstance(action, Restart)
        assert attempts_left(policy, run.state) == left
    assert verdict(policy, run.run(starting=data.draw(long), waiting=data.draw(long))) == "shutdown"


ARROWS = {
    ("idle", "starting"),
    ("starting", "up"),
    ("waiting", "starting"),
    *((before, "waiting") for before in ("given-up", "escalated", "replacing")),
    *((before, "replacing") for before in ("starting", "up")),
    *((before, after) for before in ("starting", "up") for after in ("waiting", "ended", "given-up", "escalated")),
    *((before, "stopping") for before in ("starting", "up", "replacing")),
    *((before, "ended") for before in ("idle", "waiting", "given-up", "stopping")),
}


class EngineMachine(RuleBasedStateMachine):
    """The engine beside OTP's rule on two clocks: that of the uptime, which it is to follow, and that of the wall."""

    @initialize(policy=policies)
    def begin(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self.state = State()
        self.now = 0.0
        self.revive_models()
        self.starts = 0

    def revive_models(self) -> None:
        self.by_uptime = Otp(self.policy.restart, self.policy.intensity, self.policy.period)
        self.by_wall = copy.deepcopy(self.by_uptime)
        self.uptime = 0.0
        self.ran = 0.0
        self.attempt = 0

    def apply(self, event: Event) -> Action | None:
        before, kept = self.state, copy.deepcopy(self.state)
        result = step(self.policy, before, event, self.now, lambda: 0.75)
        assert step(self.policy, copy.deepcopy(kept), event, self.now, lambda: 0.75) == result
        assert before == kept
        self.state, action = result
        if self.state.phase != before.phase:
            assert (before.phase, self.state.phase) in ARROWS
            assert self.state.since == self.now
        elif event != Replaced():
            assert self.state == before
            assert action is None
        return action

    def phase(self) -> str:
        return self.state.phase

    @rule(dt=seconds, whole=st.booleans())
    def time_passes(self, dt: float, whole: bool) -> None:
        dt = self.policy.period if whole else dt
        self.now += dt
        if self.state.phase == "up":
            self.uptime += dt
            self.ran += dt

    @precondition(lambda self: self.phase() in ("idle", "waiting"))
    @rule()
    def start(self) -> None:
        self.starts += 1
        self.ran = 0.0
        assert self.apply(Started()) is None
        assert self.state.phase == "starting"

    @precondition(lambda self: self.phase() == "starting")
    @rule()
    def get_ready(self) -> None:
        assert self.apply(Ready()) is None
        assert self.state.phase == "up"

    @precondition(lambda self: self.phase() in ("starting", "up"))
    @rule(failed=st.booleans(), silent=st.just(0.0) | seconds)
    def end(self, failed: bool, silent: float) -> None:
        self.uptime -= min(silent, self.ran)
        self.ran -= min(silent, self.ran)
        action = self.apply(Ended(failed, silent=silent))
        assert action is not None
        decided = verdict(self.policy, action)
        assert decided == self.by_uptime.ended(failed=failed, now=self.uptime)
        if self.by_wall.ended(failed=failed, now=self.now) == "shutdown":
            assert decided == "shutdown"  # never more lenient
        if decided == "shutdown":
            assert isinstance(action, Escalate if self.policy.on_exhausted == "escalate" else GiveUp)
        if isinstance(action, Restart):
            self.attempt = 0 if self.ran >= self.policy.period else self.attempt
            assert action.delay == self.policy.backoff.delay(self.attempt, lambda: 0.75)
            self.attempt += 1

    @precondition(lambda self: self.phase() in ("starting", "up"))
    @rule()
    def end_for_good(self) -> None:
        action = self.apply(PERMANENT)
        assert isinstance(action, GiveUp | Escalate)

    @precondition(lambda self: self.phase() == "given-up")
    @rule()
    def revive(self) -> None:
        assert self.apply(Revived()) == Restart(0.0)
        self.revive_models()
        if self.policy.restart != "never":
            assert attempts_left(self.policy, self.state) == self.policy.intensity

    @precondition(lambda self: self.phase() not in ("idle", "ended", "stopping", "replacing"))
    @rule(ended=st.sampled_from([FAILED, WELL, PERMANENT]))
    def replace(self, ended: Ended) -> None:
        if self.phase() in ("starting", "up"):
            assert self.apply(Replaced()) is None
            assert self.apply(ended) == Restart(0.0)
        else:
            assert self.apply(Replaced()) == Restart(0.0)
        self.revive_models()
        if self.policy.restart != "never":
            assert attempts_left(self.policy, self.state) == self.policy.intensity

    @precondition(lambda self: self.phase() == "stopping")
    @rule(ended=st.sampled_from([FAILED, WELL, PERMANENT]))
    def end_as_asked(self, ended: Ended) -> None:
        assert self.apply(ended) == Finish()

    @precondition(lambda self: self.phase() not in ("ended", "escalated", "stopping", "replacing"))
    @rule(really=st.integers(0, 9))
    def stop(self, really: int) -> None:
        if really == 0:  # else too many sequences would be over soon
            self.apply(Stopped())
            assert self.state.phase in ("stopping", "ended")

    @rule(event=st.sampled_from(EVENTS))
    def what_means_nothing_here(self, event: Event) -> None:
        if event not in TABLE[self.state.phase]:
            assert self.apply(event) is None

    @invariant()
    def incarnations_count_the_starts(self) -> None:
        assert self.state.incarnation == self.starts

    @invariant()
    def the_uptime_is_what_it_was(self) -> None:
        if self.state.phase != "up" and self.state.phase != "stopping" and self.state.phase != "ended":
            assert self.state.uptime == self.uptime

    @invariant()
    def attempts_left_is_what_is_granted(self) -> None:
        if self.state.phase not in ("idle", "waiting", "starting", "up"):
            return
        granted, state = 0, self.state
        while granted <= self.policy.intensity:
            if state.phase in ("idle", "waiting"):
                state, _ = step(self.policy, state, Started(), self.now)
            # At once: of one that is up, when it got up.
            state, action = step(self.policy, state, FAILED, state.since)
            if not isinstance(action, Restart):
                break
            granted += 1
        assert attempts_left(self.policy, self.state) == granted

    @invariant()
    def what_is_remembered_is_bounded(self) -> None:
        assert len(self.state.restarts) <= self.policy.intensity


def test_the_engine_is_otps_supervisor_on_the_clock_of_the_uptime() -> None:
    run_state_machine_as_test(EngineMachine, settings=settings(max_examples=150, stateful_step_count=60, deadline=None))


def test_the_model_is_otps_rule() -> None:
    # Two restarts within 5 seconds are granted, a third is not; one exactly 5 seconds old still counts.
    otp = Otp("always", 2, 5)
    assert [otp.ended(failed=True, now=now) for now in (0, 1, 5.5, 6, 6)] == [
        "restart",
        "restart",
        "restart",
        "shutdown",
        "shutdown",
    ]
    assert Otp("on-failure", 0, 5).ended(failed=False, now=0) == "finish"
    assert Otp("never", 9, 5).ended(failed=True, now=0) == "finish"
