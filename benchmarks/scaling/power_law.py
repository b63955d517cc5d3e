"""How a cost grows with a number: y = c * n**k, fitted by least squares to the logarithms.

An exponent of 0 is a cost that does not grow, 1 one in proportion, 2 one with the square. Where much is spent before
the first, the exponent of the whole says little of what grows; that of what comes on top of the first does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["PowerLaw", "beyond_first", "each_more", "fit"]


class PowerLaw(NamedTuple):  # of Python alone, since `plot.py` runs where nothing of the project is installed
    """The line through the logarithms."""

    factor: float
    exponent: float
    error: float
    """The standard error of the exponent; with two points it can't be known, and is `nan`."""

    def __str__(self) -> str:
        return f"{self.exponent:.2f}" + ("" if math.isnan(self.error) else f" +- {self.error:.2f}")

    def at(self, number: float) -> float:
        return self.factor * float(number**self.exponent)


def fit(points: Sequence[tuple[float, float]]) -> PowerLaw | None:
    """Fit to points of positive number and cost; others have no logarithm. `None` where less than two are left."""
    logs = [(math.log(number), math.log(cost)) for number, cost in points if number > 0 and cost > 0]
    if len({x for x, _ in logs}) < 2:
        return None
    count = len(logs)
    mean_x, mean_y = (sum(it) / count for it in zip(*logs, strict=True))
    square = sum((x - mean_x) ** 2 for x, _ in logs)
    exponent = sum((x - mean_x) * (y - mean_y) for x, y in logs) / square
    start = mean_y - exponent * mean_x
    left = sum((y - start - exponent * x) ** 2 for x, y in logs)
    error = math.sqrt(left / (count - 2) / square) if count > 2 else math.nan
    return PowerLaw(math.exp(start), exponent, error)


def beyond_first(points: Sequence[tuple[float, float]], noise: float = 0.1) -> PowerLaw | None:
    """Fit what is above the cost of the first point, where that is more than so large a share of it; else `None`."""
    (first, base), *rest = sorted(points)
    return fit([(number - first, cost - base) for number, cost in rest if cost - base > noise * base])


def each_more(points: Sequence[tuple[float, float]]) -> float:
    """Return what one more costs between the two greatest numbers."""
    *_, (fewer, less), (more, cost) = sorted(points)
    return (cost - less) / (more - fewer)
