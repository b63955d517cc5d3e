"""How much each measure may grow, and which series grow more. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import attrs

from tests.soak.trend import Trend, trend_of

__all__ = ["LIMITS", "Finding", "Key", "Limit", "Series", "findings", "leaks"]

Key: TypeAlias = tuple[str, str, str]
"""Deployment, process, measure."""
Series: TypeAlias = Mapping[Key, Sequence[tuple[float, float]]]
"""Seconds since the beginning, and the value."""


@attrs.frozen
class Limit:
    """A series leaks if its slope is above `per_hour` for sure, and it has grown by more than `step` by then.

    The step is what may come once: a thread that is started at its first use, a page of the heap.
    """

    unit: str
    per_hour: float
    step: float


LIMITS: Mapping[str, Limit] = {
    "rss": Limit("MB", 4.0, 4.0),
    "pss": Limit("MB", 4.0, 4.0),
    "descriptors": Limit("", 4.0, 4.0),
    "threads": Limit("", 2.0, 3.0),
    "processes": Limit("", 1.0, 1.0),
    "blocks": Limit("thousand", 20.0, 10.0),
    "shared files": Limit("", 8.0, 8.0),
    "shared memory": Limit("MB", 2.0, 2.0),
    "kept files": Limit("", 8.0, 8.0),
    "kept on disk": Limit("MB", 4.0, 4.0),
}


@attrs.frozen
class Finding:
    """What one series has done."""

    key: Key
    trend: Trend
    limit: Limit
    samples: int

    @property
    def is_leak(self) -> bool:
        return self.trend.slope - self.trend.error > self.limit.per_hour and self.trend.growth > self.limit.step

    def __str__(self) -> str:
        deployment, process, measure = self.key
        trend, unit = self.trend, f" {self.limit.unit}".rstrip()
        return (
            f"{deployment}, {process}: {measure} {trend.begin:.1f} to {trend.end:.1f}{unit},"
            f" {trend.slope:+.1f} +- {trend.error:.1f}{unit} an hour (limit {self.limit.per_hour:g})"
        )


def findings(series: Series, warm_up: float) -> list[Finding]:
    """Fit each series from `warm_up` seconds on; those with too few samples for a line are left out."""
    found = []
    for key, samples in series.items():
        settled = [(time, value) for time, value in samples if time >= warm_up]
        trend = trend_of(settled)
        if trend is not None:
            found.append(Finding(key, trend, LIMITS[key[2]], len(settled)))
    return found


def leaks(found: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.is_leak]
