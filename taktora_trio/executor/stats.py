"""Figures about one item's timing, over a sliding window of fixed memory.

A cycle writes three numbers into rings and counts; all else is worked out when somebody asks.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable

import attrs

__all__ = ["ItemStats", "Statistics", "Summary", "summarize"]


@attrs.frozen
class Summary:
    """Timing of the cycles in the window, in seconds. Exact: each figure is one of the values (nearest rank)."""

    p50: float
    p95: float
    p99: float
    minimum: float
    maximum: float


def summarize(values: Iterable[float]) -> Summary | None:
    """Return the figures of these values; `None` if there are none."""
    ordered = sorted(values)
    if not ordered:
        return None

    def rank(percent: int) -> float:
        return ordered[-(-percent * len(ordered) // 100) - 1]  # the ceiling, without the rounding of floats

    return Summary(rank(50), rank(95), rank(99), ordered[0], ordered[-1])


@attrs.frozen(kw_only=True)
class ItemStats:
    """One item's figures: counts since its executor started, and timing over the last cycles."""

    count: int
    """The number of cycles that have ended, well or not."""
    failures: int
    """The number of cycles that failed."""
    overruns: int
    """The number of cycles that took longer than the budget."""
    skipped: int
    """The number of slots of `every` that were missed."""
    duration: Summary | None
    """The time from the start of a cycle to its end."""
    lateness: Summary | None
    """The time from when a cycle was due to its start. `None` if nothing but events wakes the item."""
    jitter: Summary | None
    """The difference in lateness from one cycle to the next, without its sign."""


class Statistics:
    """Counts and rings of one item. `record` is called once a cycle and allocates nothing that stays."""

    __slots__ = ("_durations", "_jitters", "_last", "_latenesses", "_size", "count", "failures", "overruns", "skipped")

    def __init__(self, window: int) -> None:
        """`window` is the number of cycles that are kept: 24 bytes each."""
        self._size = window
        self._durations = array("d", bytes(8 * window))
        self._latenesses = array("d", bytes(8 * window))
        self._jitters = array("d", bytes(8 * window))
        self._last = math.nan
        self.count = self.failures = self.overruns = self.skipped = 0

    def record(self, duration: float, lateness: float) -> None:
        """Add a cycle. `lateness` is NaN where it had no time at which it was due."""
        place = self.count % self._size
        self._durations[place] = duration
        self._latenesses[place] = lateness
        self._jitters[place] = abs(lateness - self._last)  # NaN if either is
        self._last = lateness
        self.count += 1

    def read(self) -> ItemStats:
        kept = min(self.count, self._size)
        return ItemStats(
            count=self.count,
            failures=self.failures,
            overruns=self.overruns,
            skipped=self.skipped,
            duration=summarize(self._durations[:kept]),
            lateness=summarize(value for value in self._latenesses[:kept] if value == value),
            jitter=summarize(value for value in self._jitters[:kept] if value == value),
        )
