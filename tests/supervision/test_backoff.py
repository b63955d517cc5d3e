from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio import Backoff, ConfigError


@st.composite
def backoffs(draw: st.DrawFn) -> Backoff:
    initial = draw(st.floats(1e-6, 1e6))
    return Backoff(
        initial=initial,
        maximum=initial * draw(st.floats(1, 1e6)),
        factor=draw(st.floats(1, 1e6)),
        jitter=draw(st.floats(0, 1)),
    )


@given(backoffs(), st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_every_delay_is_within_bounds(backoff: Backoff, draws: list[float]) -> None:
    randoms = iter(draws)
    low, high = backoff.initial * (1 - backoff.jitter), backoff.maximum * (1 + backoff.jitter)
    for delay in islice(backoff.delays(lambda: next(randoms)), len(draws)):
        assert low * (1 - 1e-9) <= delay <= high * (1 + 1e-9)


@given(backoffs())
def test_the_middle_of_each_delay_never_falls(backoff: Backoff) -> None:
    middles = list(islice(backoff.delays(lambda: 0.5), 100))
    assert middles == sorted(middles)


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (Backoff(initial=1, maximum=10, factor=2, jitter=0), [1, 2, 4, 8, 10, 10]),
        (Backoff(initial=0.5, maximum=60, factor=3, jitter=0), [0.5, 1.5, 4.5, 13.5, 40.5, 60]),
        (Backoff(initial=2, maximum=2, factor=7, jitter=0), [2, 2, 2, 2, 2, 2]),
        (Backoff(initial=2, maximum=9, factor=1, jitter=0), [2, 2, 2, 2, 2, 2]),
    ],
)
def test_the_series_without_jitter(backoff: Backoff, expected: list[float]) -> None:
    assert list(islice(backoff.delays(), 6)) == expected
    assert list(islice(backoff.delays(), 6)) == expected  # each series begins anew


def test_jitter_spreads_to_both_sides_and_does_not_add_up() -> None:
    backoff = Backoff(initial=1, maximum=4, factor=2, jitter=0.25)
    assert list(islice(backoff.delays(lambda: 1.0), 4)) == [1.25, 2.5, 5.0, 5.0]
    assert list(islice(backoff.delays(lambda: 0.0), 4)) == [0.75, 1.5, 3.0, 3.0]


def test_two_clients_do_not_come_back_in_step() -> None:
    backoff = Backoff(initial=1, maximum=4, jitter=0.5)
    assert list(islice(backoff.delays(), 8)) != list(islice(backoff.delays(), 8))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("initial", 0),
        ("initial", -1.0),
        ("initial", float("nan")),
        ("initial", float("inf")),
        ("maximum", 0.05),
        ("maximum", float("nan")),
        ("maximum", float("inf")),
        ("factor", 0.99),
        ("factor", -2),
        ("factor", float("nan")),
        ("jitter", -0.1),
        ("jitter", 1.1),
        ("jitter", float("nan")),
    ],
)
def test_each_error_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^backoff {field} is {value!r}"):
        Backoff(**{field: value})


def test_a_late_attempt_has_a_delay_too() -> None:
    backoff = Backoff(initial=1, maximum=7, factor=1e300, jitter=0)
    assert [backoff.delay(attempt) for attempt in (0, 1, 2, 10**6)] == [1, 7, 7, 7]


def test_the_maximum_may_be_the_initial_delay() -> None:
    assert Backoff(initial=2, maximum=2).delay(5, lambda: 0.5) == 2
