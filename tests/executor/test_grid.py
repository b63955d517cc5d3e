from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.executor.grid import Grid

PERIODS = st.floats(1e-4, 1e4, allow_nan=False)
ORIGINS = st.floats(0, 1e6, allow_nan=False)
DURATIONS = st.lists(st.floats(0, 5, allow_nan=False), min_size=1, max_size=30)  # in periods


def first_at_or_after(origin: float, period: float, slot: int, now: float) -> int:
    """Slot by slot, as one would say it."""
    return next(k for k in itertools.count(slot) if origin + k * period >= now)


@given(ORIGINS, PERIODS, DURATIONS)
def test_against_a_naive_model(origin: float, period: float, durations: list[float]) -> None:
    grid = Grid(origin, period)
    now, last, missed_in_all = origin, -1, 0
    for duration in durations:
        now = max(now, grid.due)  # it is woken at its time, or late
        taken, skipped = grid.slot, grid.skipped
        assert taken == last + 1 + skipped  # each slot either runs or is skipped, and none twice
        grid.take()
        now += duration * period
        missed = grid.pass_over(now)
        missed_in_all += missed
        assert grid.slot == first_at_or_after(origin, period, taken + 1, now)
        assert grid.due == origin + grid.slot * period  # whatever happened before: it does not drift
        assert grid.skipped == missed
        last = taken
    assert grid.slot == len(durations) + missed_in_all


@given(ORIGINS, PERIODS, st.integers(0, 10**6))
def test_a_slot_that_is_due_just_now_is_not_missed(origin: float, period: float, slot: int) -> None:
    grid = Grid(origin, period)
    grid.pass_over(origin + slot * period)
    assert grid.due >= origin + slot * period
    assert grid.slot <= slot


def test_what_is_missed_adds_up_until_a_slot_runs() -> None:
    grid = Grid(10.0, 2.0)
    assert (grid.slot, grid.due, grid.skipped) == (0, 10.0, 0)
    assert grid.pass_over(13.0) == 2
    assert grid.pass_over(13.5) == 0
    assert grid.pass_over(14.5) == 1
    assert (grid.slot, grid.due, grid.skipped) == (3, 16.0, 3)
    grid.take()
    assert (grid.slot, grid.due, grid.skipped) == (4, 18.0, 0)
