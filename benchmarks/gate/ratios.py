"""A ratio of costs with its confidence interval, from blocks that were measured by turns, and the verdict on it.

Each block gives one ratio, of a start of its own, for what a process got at its start (where its memory lies, the seed
of its hashes) stays with it: rounds of one start are no independent measurements. The ratio is the Hodges-Lehmann
estimate of the blocks' logarithms, the interval that of Wilcoxon's signed ranks. It is exact for as few blocks as
eight and supposes no normal distribution; from fifteen blocks on, one in which another program took the machine does
not stretch it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from math import exp, log
from typing import Literal, TypeAlias

import attrs

__all__ = ["CONFIDENCE", "FEWEST", "Ratio", "Verdict", "ratio_of", "verdict_on"]

Verdict: TypeAlias = Literal["worse", "better", "same", "unclear"]

CONFIDENCE = 0.99
"""Of each interval; then none of ten figures fails by chance in 95 of 100 runs, however noisy the machine is."""
FEWEST = 8
"""The blocks that an interval of that confidence needs: of seven, all lie on one side in 2 of 128 cases by chance."""


@attrs.frozen
class Ratio:
    """What this tree costs in units of what the other does: more than 1 is worse, whatever the figure."""

    low: float
    middle: float
    high: float

    @property
    def spread(self) -> float:
        """How far the interval reaches, as a factor from its middle: 1.05 is 5 % up or down."""
        return max(self.high / self.middle, self.middle / self.low)


def ratio_of(costs: Sequence[tuple[float, float]]) -> Ratio:
    """Return the ratio of this tree's cost to the other's, from at least `FEWEST` blocks of both."""
    if len(costs) < FEWEST:
        raise ValueError(f"{len(costs)} blocks are too few for an interval of {CONFIDENCE:.0%}: take {FEWEST} or more")
    logs = [log(ours / theirs) for ours, theirs in costs]
    means = sorted((one + other) / 2 for at, one in enumerate(logs) for other in logs[at:])
    cut = _cut(len(logs))
    return Ratio(exp(means[cut]), exp(statistics.median(means)), exp(means[-1 - cut]))


def _cut(count: int) -> int:
    """Return the greatest sum of ranks that is too small for chance at both ends together; its means are cut off."""
    ways = [1] + [0] * (count * (count + 1) // 2)  # in how many ways the ranks of one sign have each sum
    for rank in range(1, count + 1):
        for total in range(len(ways) - 1, rank - 1, -1):
            ways[total] += ways[total - rank]
    allowed, cut = (1 - CONFIDENCE) / 2 * 2**count, -1
    while (allowed := allowed - ways[cut + 1]) >= 0:
        cut += 1
    return cut


def verdict_on(ratio: Ratio, tolerance: float) -> Verdict:
    """Return what is certain: that it is worse, or better, by more than the tolerance; or that it is neither."""
    if ratio.low > 1 + tolerance:
        return "worse"
    if ratio.high < 1 / (1 + tolerance):
        return "better"
    if 1 / (1 + tolerance) <= ratio.low and ratio.high <= 1 + tolerance:
        return "same"
    return "unclear"
