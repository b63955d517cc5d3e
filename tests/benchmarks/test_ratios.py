"""The gate's statistics: a regression of 10 % is found, noise is not, and one bad block of many changes neither."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gate.ratios import CONFIDENCE, FEWEST, Ratio, ratio_of, verdict_on

TOLERANCE = 0.05


def series(seed: int, blocks: int, factor: float, noise: float) -> list[tuple[float, float]]:
    """Make up costs of a machine whose speed drifts; the noise is a share, of each measurement."""
    chance, costs, speed = random.Random(seed), [], 100.0
    for _ in range(blocks):
        speed *= math.exp(chance.gauss(0, 0.2))
        costs.append((speed * factor * math.exp(chance.gauss(0, noise)), speed * math.exp(chance.gauss(0, noise))))
    return costs


def verdicts(factor: float, noise: float, blocks: int) -> list[str]:
    return [verdict_on(ratio_of(series(seed, blocks, factor, noise)), TOLERANCE) for seed in range(400)]


def test_ten_percent_are_found_where_the_noise_is_two() -> None:
    assert verdicts(1.10, 0.02, 12).count("worse") > 0.95 * 400
    assert verdicts(1 / 1.10, 0.02, 12).count("better") > 0.95 * 400


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.2, 1.0])
def test_noise_is_not_taken_for_a_regression(noise: float) -> None:
    assert verdicts(1.0, noise, 8).count("worse") <= 0.01 * 400


def test_what_is_at_the_limit_fails_no_more_often_than_the_confidence_allows() -> None:
    assert verdicts(1 + TOLERANCE, 0.03, 8).count("worse") <= 0.015 * 400  # 0.5 % and three standard errors, about


@pytest.mark.parametrize("blocks", [8, 11, 16])
def test_the_interval_has_the_true_ratio_as_often_as_it_says(blocks: int) -> None:
    ratios = [ratio_of(series(seed, blocks, 1.3, 0.1)) for seed in range(1000)]
    inside = sum(it.low <= 1.3 <= it.high for it in ratios)
    assert CONFIDENCE - 0.01 <= inside / 1000 <= 0.999


def test_one_wild_block_of_sixteen_hides_no_regression_and_makes_none() -> None:
    for factor, verdict in ((1.15, "worse"), (1.0, "same")):
        costs = series(1, 16, factor, 0.005)
        for wild in (0.1, 10.0):
            assert verdict_on(ratio_of([*costs[:-1], (100 * wild, 100)]), TOLERANCE) == verdict


def test_eight_blocks_are_between_the_lowest_and_the_highest() -> None:
    ratio = ratio_of([(1.0 + at / 10, 1.0) for at in range(8)])
    assert [ratio.low, ratio.high] == pytest.approx([1.0, 1.7])
    with pytest.raises(ValueError, match="too few"):
        ratio_of([(1.0, 1.0)] * (FEWEST - 1))


costs = st.lists(st.tuples(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6)), min_size=FEWEST, max_size=20)


@given(costs)
def test_the_trees_exchanged_give_the_inverse(blocks: list[tuple[float, float]]) -> None:
    ratio, inverse = ratio_of(blocks), ratio_of([(other, this) for this, other in blocks])
    assert ratio.low <= ratio.middle <= ratio.high
    assert [ratio.low, ratio.middle, ratio.high] == pytest.approx(
        [1 / inverse.high, 1 / inverse.middle, 1 / inverse.low]
    )


@given(costs, st.floats(1.2, 5))
def test_more_cost_is_never_a_better_verdict(blocks: list[tuple[float, float]], factor: float) -> None:
    order = ["better", "same", "unclear", "worse"]
    before = verdict_on(ratio_of(blocks), TOLERANCE)
    after = verdict_on(ratio_of([(this * factor, other) for this, other in blocks]), TOLERANCE)
    if before == "worse":
        assert after == "worse"
    if after == "better":
        assert before == "better"
    assert order.index(after) >= order.index(before) or before == "unclear"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(1.06, 1.2, "worse"), (1.04, 1.2, "unclear"), (0.97, 1.04, "same"), (0.8, 0.94, "better"), (0.8, 1.2, "unclear")],
)
def test_only_a_whole_interval_beyond_the_tolerance_is_certain(low: float, high: float, verdict: str) -> None:
    assert verdict_on(Ratio(low, math.sqrt(low * high), high), TOLERANCE) == verdict
