from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio import Backoff, ConfigError, RestartPolicy
from taktora_trio.supervision.policy import Decision, Finish, GiveUp, Restart, RestartHistory

BACKOFF = Backoff(initial=1, maximum=8, factor=2, jitter=0)


def decisions(policy: RestartPolicy, *runs: tuple[float, float], failed: bool = True) -> list[Decision]:
    """What is decided about runs that began and ended at these times."""
    history = RestartHistory(policy)
    return [history.decide(failed=failed, started=started, now=ended) for started, ended in runs]


@pytest.mark.parametrize(
    ("restart", "failed", "expected"),
    [
        ("always", True, Restart(1)),
        ("always", False, Restart(1)),
        ("on-failure", True, Restart(1)),
        ("on-failure", False, Finish()),
        ("never", True, GiveUp("its policy is never to restart it")),
        ("never", False, Finish()),
    ],
)
def test_what_each_kind_decides(restart: Any, failed: bool, expected: Decision) -> None:
    policy = RestartPolicy(restart=restart, backoff=BACKOFF)
    assert decisions(policy, (0, 0), failed=failed) == [expected]


def test_delays_grow_while_it_keeps_crashing() -> None:
    runs = [(at, at + 1.0) for at in range(5)]
    assert decisions(RestartPolicy(backoff=BACKOFF), *runs) == [Restart(d) for d in (1, 2, 4, 8, 8)]


def test_given_up_after_more_than_intensity_restarts_within_the_period() -> None:
    policy = RestartPolicy(backoff=BACKOFF, intensity=2, period=10)
    assert decisions(policy, (0, 0), (1, 1), (3, 3)) == [Restart(1), Restart(2), GiveUp("it ended 3 times within 10 s")]


def test_restarts_older_than_the_period_do_not_count() -> None:
    policy = RestartPolicy(backoff=BACKOFF, intensity=2, period=10)
    runs = [(0, 0), (1, 5), (6, 10), (11, 15), (16, 19.9)]
    assert decisions(policy, *runs) == [
        Restart(1),
        Restart(2),
        Restart(4),
        Restart(8),
        GiveUp("it ended 3 times within 10 s"),
    ]


def test_intensity_zero_never_restarts() -> None:
    assert decisions(RestartPolicy(intensity=0, period=5), (0, 99)) == [GiveUp("it ended 1 times within 5 s")]


def test_the_backoff_starts_over_after_a_run_as_long_as_the_period() -> None:
    policy = RestartPolicy(backoff=BACKOFF, period=10)
    runs = [(0, 0), (1, 1), (3, 12.9), (17, 27), (28, 28)]
    assert decisions(policy, *runs) == [Restart(1), Restart(2), Restart(4), Restart(1), Restart(2)]


@given(st.integers(0, 5), st.floats(0.5, 20), st.lists(st.floats(0, 10), max_size=30))
def test_never_more_than_intensity_restarts_within_any_period(
    intensity: int, period: float, waits: list[float]
) -> None:
    history = RestartHistory(RestartPolicy(intensity=intensity, period=period))
    now, restarts = 0.0, list[float]()
    for wait in waits:
        now += wait
        recent = [at for at in restarts if now - at < period]
        match history.decide(failed=True, started=now - wait, now=now):
            case Restart():
                restarts.append(now)
                assert len(recent) < intensity
            case GiveUp():
                assert len(recent) >= intensity
            case Finish():
                raise AssertionError("a failure is no end")


def test_the_source_of_randomness_can_be_given() -> None:
    history = RestartHistory(RestartPolicy(backoff=Backoff(initial=1, maximum=8, jitter=0.5)))
    assert history.decide(failed=True, started=0, now=0, random=lambda: 1.0) == Restart(1.5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("restart", "sometimes"),
        ("restart", None),
        ("intensity", -1),
        ("period", 0),
        ("period", -5.0),
        ("period", float("nan")),
        ("stop_grace", -0.1),
        ("stop_grace", float("nan")),
    ],
)
def test_each_error_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{field} is {value!r}"):
        RestartPolicy(**{field: value})
