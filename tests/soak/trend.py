"""A straight line through samples, and how sure its slope is. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import attrs

__all__ = ["PARTS", "Trend", "trend_of"]

PARTS = 20
"""The samples are averaged in so many parts of equal length: neighbours in time resemble each other, and would make the
slope look surer than it is; the means of long parts do so far less."""
_T = 2.101  # Student's t for 95 % in both directions and PARTS - 2 degrees of freedom


@attrs.frozen
class Trend:
    """What a series does with time. Times in seconds."""

    begin: float
    """The line's value at the first sample, and at the last one."""
    end: float
    slope: float
    """Per hour."""
    error: float
    """The slope is between `slope - error` and `slope + error` with a confidence of 95 %."""

    @property
    def growth(self) -> float:
        """From the first sample to the last, by the line."""
        return self.end - self.begin


def trend_of(samples: Sequence[tuple[float, float]]) -> Trend | None:
    """Fit a line by least squares; `None` if there are not enough samples for it. They are in the order of time."""
    means = _means(samples)
    if len(means) < 3:
        return None
    times, values = zip(*means, strict=True)
    slope, intercept = statistics.linear_regression(times, values)
    spread = sum((time - statistics.fmean(times)) ** 2 for time in times)
    squares = sum((value - (intercept + slope * time)) ** 2 for time, value in means)
    error = _T * math.sqrt(squares / (len(means) - 2) / spread)
    first, last = samples[0][0], samples[-1][0]
    return Trend(intercept + slope * first, intercept + slope * last, slope * 3600, error * 3600)


def _means(samples: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the mean time and value of each part that has samples."""
    if len(samples) < PARTS:
        return list(samples) if len(samples) >= PARTS // 2 else []
    first, length = samples[0][0], (samples[-1][0] - samples[0][0]) / PARTS
    if not length:
        return []
    parts: dict[int, list[tuple[float, float]]] = {}
    for time, value in samples:
        parts.setdefault(min(int((time - first) / length), PARTS - 1), []).append((time, value))
    return [
        (statistics.fmean(time for time, _ in part), statistics.fmean(value for _, value in part))
        for part in parts.values()
    ]
