from __future__ import annotations

import pytest

from benchmarks.report import Figure, grid, percentile


def test_numbers_are_set_to_the_right_and_words_to_the_left() -> None:
    assert grid([["what", "count", "note"], ["a", "1,000", "x"], ["long", "7", ""], ["c", "-", "y"]]).splitlines() == [
        "what  count  note",
        "-----------------",
        "a     1,000  x",
        "long      7",
        "c         -  y",
    ]


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.25, 1), (0.5, 2), (0.51, 3), (0.99, 4), (1.0, 4)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: int) -> None:
    assert percentile([3, 1, 4, 2], share) == value


def test_a_limit_is_from_above_or_from_below_and_reaching_it_is_enough() -> None:
    def ok(measured: float, *, at_most: bool) -> bool:
        return Figure(what="", measured=measured, target=2, unit="x", at_most=at_most, beside="").ok

    assert [ok(value, at_most=True) for value in (1.9, 2, 2.1)] == [True, True, False]
    assert [ok(value, at_most=False) for value in (1.9, 2, 2.1)] == [False, True, True]
