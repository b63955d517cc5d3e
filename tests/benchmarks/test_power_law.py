"""Exponents are found again in costs that were made with them."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scaling.power_law import beyond_first, each_more, fit

NUMBERS = (1, 3, 10, 30, 100, 300, 1000)


@given(st.floats(-2, 3), st.floats(1e-6, 1e6))
def test_an_exact_law_is_found_again(exponent: float, factor: float) -> None:
    law = fit([(number, factor * number**exponent) for number in NUMBERS])
    assert law is not None
    assert law.exponent == pytest.approx(exponent, abs=1e-6)
    assert law.error == pytest.approx(0, abs=1e-6)
    assert law.at(30) == pytest.approx(factor * 30**exponent)


def test_the_error_is_what_the_exponent_scatters_by() -> None:
    chance, laws = random.Random(1), []
    for _ in range(500):
        law = fit([(number, number * math.exp(chance.gauss(0, 0.2))) for number in NUMBERS])
        assert law is not None
        laws.append(law)
    scatter = math.sqrt(sum((law.exponent - 1) ** 2 for law in laws) / len(laws))
    assert math.sqrt(sum(law.error**2 for law in laws) / len(laws)) == pytest.approx(scatter, rel=0.15)


@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_what_is_spent_before_the_first_does_not_hide_how_the_rest_grows(exponent: float) -> None:
    points = [(number, 0.8 + 1e-4 * (number - 1) ** exponent) for number in NUMBERS]
    whole, rest = fit(points), beyond_first(points, noise=1e-9)
    assert whole is not None
    assert rest is not None
    assert whole.exponent < 0.8 * exponent
    assert rest.exponent == pytest.approx(exponent)
    assert each_more(points) == pytest.approx((points[-1][1] - points[-2][1]) / 700)


def test_where_nothing_grows_nothing_is_fitted() -> None:
    assert beyond_first([(number, 1.0 + 0.01 * (number % 3)) for number in NUMBERS]) is None
    assert fit([(1, 5.0), (10, 0.0)]) is None
