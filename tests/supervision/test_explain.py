"""Each figure of an explanation is checked against a simulation of the engine."""

from __future__ import annotations

import bisect
import itertools
import json
import math
import random
import re
from collections.abc import Callable, Iterable, Sequence

import attrs
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from taktora_trio import Backoff, ConfigError, Deployment, RestartPolicy
from taktora_trio.supervision.engine import Action, Ended, Escalate, GiveUp, Ready, Restart, Started, State, step
from taktora_trio.supervision.explain import check, explain, explain_all, most_restarts, table, to_json, to_text


def fail_after(
    policy: RestartPolicy, state: State, run: float | None, now: float, chance: Callable[[], float]
) -> tuple[State, float, Action | None]:
    """Run one incarnation that starts in no time, and fails after that time; after `None` it was never ready."""
    state, _ = step(policy, state, Started(), now)
    if run is not None:
        state, _ = step(policy, state, Ready(), now)
        now += run
    state, action = step(policy, state, Ended(failed=True), now, chance)
    return state, now, action


def granted(policy: RestartPolicy, runs: Iterable[float | None], chance: Callable[[], float]) -> list[float] | None:
    """Return the times of the restarts of one that runs for these times; `None` if it is given up or escalates."""
    state, now, times = State(), 0.0, list[float]()
    for run in runs:
        state, now, action = fail_after(policy, state, run, now, chance)
        if not isinstance(action, Restart):
            return None
        times.append(now)
        now += action.delay
    return times


def most_within(times: Sequence[float], seconds: float) -> int:
    """Return the most of these times that lie within less than so many seconds."""
    return max((bisect.bisect_left(times, time + seconds) - index for index, time in enumerate(times)), default=0)


@st.composite
def policies(draw: st.DrawFn, least: int = 1) -> RestartPolicy:
    initial = draw(st.floats(0.01, 10))
    return RestartPolicy(
        restart=draw(st.sampled_from(["always", "on-failure"])),
        backoff=Backoff(
            initial=initial,
            maximum=initial * draw(st.floats(1, 1000)),
            factor=draw(st.sampled_from([1.0, 1.01, 1.5, 2.0, 10.0, math.inf])),
            jitter=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        ),
        intensity=draw(st.integers(least, 12)),
        period=draw(st.floats(0.5, 500)),
        on_exhausted=draw(st.sampled_from(["give_up", "escalate"])),
    )


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
@given(policy=policies(least=0), ready=st.booleans())
def test_one_that_fails_at_once_is_given_up_after_so_many_failures_and_so_long(
    chance: float, policy: RestartPolicy, ready: bool
) -> None:
    explanation = explain(policy)
    state, now = State(), 0.0
    failures = 0
    while True:
        failures += 1
        state, now, action = fail_after(policy, state, 0.0 if ready else None, now, lambda: chance)
        if not isinstance(action, Restart):
            break
        now += action.delay
    assert isinstance(action, GiveUp | Escalate)
    assert failures == explanation.failures
    until = explanation.until_given_up
    assert now == pytest.approx({0.0: until.shortest, 0.5: until.nominal, 1.0: until.longest}[chance])


@given(policies())
def test_the_delays_are_those_of_the_backoff(policy: RestartPolicy) -> None:
    delays = explain(policy).delays
    for attempt, delay in enumerate(delays):
        spread = [policy.backoff.delay(attempt, lambda at=at: at) for at in (0.5, 0.0, 1.0)]  # type: ignore[misc]
        assert attrs.astuple(delay) == pytest.approx(spread)
    nominal = [delay.nominal for delay in delays]
    assert nominal == sorted(set(nominal)), "it ends where they grow no more"
    assert len(delays) == 64 or policy.backoff.delay(len(delays), lambda: 0.5) == nominal[-1]


@given(policies(), st.floats(1, 5000), st.integers())
@settings(deadline=None)
def test_no_history_has_more_restarts_than_the_worst(policy: RestartPolicy, seconds: float, seed: int) -> None:
    """A history at random; where it would be given up, that run lasts for longer than the period instead."""
    most, _ = most_restarts(policy, seconds)
    chances = random.Random(seed)
    long = policy.period * (1 + 1e-9)
    lengths = [None, 0.0, policy.period / 4, policy.period, long, 1.5 * long]
    weights = [chances.random() ** 3 for _ in lengths]
    state, now, times = State(), 0.0, list[float]()
    for _ in range(200):
        [run] = chances.choices(lengths, weights)
        before, began = state, now
        state, now, action = fail_after(policy, before, run, began, chances.random)
        if not isinstance(action, Restart):
            state, now, action = fail_after(policy, before, long, began, chances.random)
        assert isinstance(action, Restart)
        times.append(now)
        now += action.delay
    assert most_within(times, seconds) <= most


@given(policies(), st.floats(1, 5000))
@settings(deadline=None)
@example(RestartPolicy(), 3600)
@example(RestartPolicy(intensity=9, backoff=Backoff(initial=1, maximum=2000, factor=10)), 3600)
def test_there_is_a_history_with_as_many_restarts_as_the_worst(policy: RestartPolicy, seconds: float) -> None:
    most, bursts = most_restarts(policy, seconds)
    assume(most <= 500)
    # A hair less must do, too: the run between two bursts is a hair longer than the period.
    assume(most_restarts(policy, seconds * (1 - 1e-6)) == (most, bursts))
    each, more = divmod(most - 1, bursts)
    sizes = [each + 1] * more + [each] * (bursts - more)
    sizes[-1] += 1  # the delay after the very last one is not waited for
    runs = [run for size in sizes for run in (policy.period * (1 + 1e-9), *[0.0] * (size - 1))]
    times = granted(policy, runs, lambda: 0.0)
    assert times is not None, "it was given up"
    assert len(times) == most
    assert most_within(times, seconds) == most


@given(policies(), st.floats(1, 2000))
@settings(deadline=None)
def test_of_few_restarts_all_histories_were_tried(policy: RestartPolicy, seconds: float) -> None:
    policy = attrs.evolve(policy, intensity=min(policy.intensity, 4))
    most, _ = most_restarts(policy, seconds)
    assume(most <= 6)
    assume(most_restarts(policy, seconds * (1 - 1e-6))[0] == most)
    lengths = (0.0, policy.period / 3, policy.period * (1 + 1e-9))
    best = 0
    for runs in itertools.product(lengths, repeat=most):  # one failure more than the worst
        times = granted(policy, (0.0, *runs), lambda: 0.0)
        best = max(best, 0 if times is None else most_within(times, seconds))
    assert best == most


def test_the_worst_hour_of_the_defaults_by_hand() -> None:
    """Between 44 bursts there are 43 minutes; 39 times 26.3 s of delays, and 5 times 21.3 s, each 10 % shorter."""
    explanation = explain(RestartPolicy())
    assert 43 * 60 + 0.9 * (39 * 26.3 + 5 * 21.3) < 3600 < 43 * 60 + 0.9 * (40 * 26.3 + 4 * 21.3)
    assert explanation.bursts == 44
    assert explanation.restarts_an_hour == 39 * 10 + 5 * 9 + 1


def test_short_bursts_where_long_ones_wait_too_long() -> None:
    """Of the delays 1, 10, 100, 1000 s only two are taken in a row, since a minute's run makes them start over."""
    policy = RestartPolicy(backoff=Backoff(initial=1, maximum=1000, factor=10, jitter=0), intensity=9, period=60)
    explanation = explain(policy)
    # 1 + 10 + 60 s each, 50 times; in the 50 s that are left there are three more, after 0, 1 and 11 s.
    assert explanation.restarts_an_hour == 2 * 50 + 3
    assert explanation.bursts == 51


@pytest.mark.parametrize(("text", "most"), [("restart=never", 0), ("intensity=0", 0), ("period=inf", 10)])
def test_what_bounds_the_hour_by_itself(text: str, most: int) -> None:
    assert explain(RestartPolicy().changed(text)).restarts_an_hour == most


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("restart=never", ["restart=never"]),
        ("factor=1", ["maximum"]),
        ("jitter=1", ["jitter=1"]),
        ("restart=always,stop_grace=0", ["stop_grace=0"]),
        ("factor=1,jitter=1,intensity=0,on_exhausted=escalate", []),
    ],
)
def test_what_is_odd_is_noted(text: str, parts: list[str]) -> None:
    policy = RestartPolicy().changed(text) if text else RestartPolicy()
    notes = explain(policy).notes
    assert len(notes) == len(parts)
    for note, part in zip(notes, parts, strict=True):
        assert part in note
        assert f"Note: {note}." in table(explain(policy))


def test_deadlines() -> None:
    text = "watchdog=8,initial=1,maximum=4,jitter=0.5,start_timeout=3,intensity=2"
    explanation = explain(RestartPolicy().changed(text))
    assert explanation.hang_to_restart == 8 + 0.5 + 4 * 1.5
    assert explanation.stall_to_restart == 4 + 8 + 0.5 + 4 * 1.5
    assert explanation.until_given_up_unready == 3 * 3.5 + 3 * 1.5
    assert explain(RestartPolicy(watchdog=None)).hang_to_restart is None


# Contradictions


def refusal(policy: RestartPolicy) -> str:
    with pytest.raises(ConfigError) as caught:
        check(policy)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_defaults_are_no_contradiction() -> None:
    check(RestartPolicy())
    for field in ("gateway_policy", "plugin_policy"):
        check(getattr(attrs.fields(Deployment), field).default)


@pytest.mark.parametrize(
    ("text", "both", "instead"),
    [
        ("maximum=60", "maximum=60 and period=60", "maximum=17.2"),
        ("maximum=60", "maximum=60 and period=60", "period=103"),
        ("intensity=100,period=5", "intensity=100 and period=5", "intensity=5"),
        ("intensity=1,initial=5,period=3", "intensity=1 and period=3", "period=5"),
        ("intensity=0", "restart=on-failure and intensity=0", "restart=never"),
        ("restart=always,intensity=0", "restart=always and intensity=0", "intensity=1"),
        ("stop_grace=0", "restart=on-failure and stop_grace=0", "stop_grace=2"),
        ("stop_grace=0", "restart=on-failure and stop_grace=0", "restart=always"),
        ("restart=never,on_exhausted=escalate", "restart=never and on_exhausted=escalate", "on_exhausted=give_up"),
    ],
)
def test_a_contradiction_names_both_fields_and_a_way_out(text: str, both: str, instead: str) -> None:
    policy = RestartPolicy().changed(text)
    line = refusal(policy)
    assert line.startswith(f"{both} cancel out: ")
    assert instead in line
    check(policy.changed(instead))


@pytest.mark.parametrize(
    "text",
    [
        "restart=never",
        "intensity=0,on_exhausted=escalate",
        "factor=1",
        "period=inf",
        "jitter=1",
        "watchdog=off",
        "restart=always,stop_grace=0",
    ],
)
def test_what_is_only_odd_is_not_refused(text: str) -> None:
    check(RestartPolicy().changed(text))


@given(policies())
def test_delays_are_refused_exactly_if_they_take_longer_than_the_period(policy: RestartPolicy) -> None:
    waiting = math.fsum(policy.backoff.delay(attempt, lambda: 0.5) for attempt in range(policy.intensity))
    assume(not math.isclose(waiting, policy.period, rel_tol=1e-6))
    if waiting < policy.period:
        check(policy)
        return
    line = refusal(policy)
    ways = re.findall(r"(?:maximum|intensity|period)=[0-9.e+-]+(?= or)", line)
    assert ways
    for way in ways:
        check(attrs.evolve(policy).changed(way))


# What is shown


@given(policies(least=0))
def test_every_policy_can_be_shown(policy: RestartPolicy) -> None:
    text = table(explain(policy))
    assert str(policy) in text
    assert all(line == line.rstrip() for line in text.splitlines())
    json.loads(to_json({"": explain(policy)}))


def test_the_text_for_people() -> None:
    policy = RestartPolicy(restart="always", intensity=3, watchdog=None, backoff=Backoff(initial=1, maximum=3))
    assert to_text(explain_all({"gateway": policy})) == (
        "gateway:\n"
        "  Started again whenever it ends, also if it ends well.\n"
        "    delays      1 s, 2 s, then 3 s each time, up to 10 % shorter or longer\n"
        "                from the first again after a run of 60 s\n"
        "    given up    at the 4th failure within 60 s of uptime\n"
        "                if it fails at once each time, after 6 s (5.4 s to 6.6 s) of delays\n"
        "                if it is never ready, after 88.6 s at most\n"
        "    worst hour  168 restarts, and still not given up: in 56 bursts of 3 at most, with runs of just over 60 s"
        " between\n"
        "    exhausted   it stays down and the app goes on, until it is revived (taktora-trio revive)\n"
        "    start       killed if it is not ready within 20 s\n"
        "    hang        not noticed, since watchdog=off\n"
        "    stop        killed if it has not ended 2 s after SIGTERM\n"
        "  In full: restart=always,initial=1,maximum=3,factor=2,jitter=0.1,intensity=3,period=60,on_exhausted=give_up,"
        "start_timeout=20,watchdog=off,stop_grace=2"
    )


def test_of_two_the_refusal_says_which() -> None:
    with pytest.raises(ConfigError, match=r"^the plugin's policy: restart=on-failure and intensity=0 "):
        explain_all({"gateway": RestartPolicy(), "plugin": RestartPolicy(intensity=0)})
