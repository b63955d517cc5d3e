"""The slots of `every`: an absolute grid, on which nothing drifts and nothing is replayed. Pure."""

from __future__ import annotations

import math

__all__ = ["Grid"]


class Grid:
    """Slot `k` is due at `origin + k * period`, in seconds on any clock that only goes forward."""

    def __init__(self, origin: float, period: float) -> None:
        self._origin = origin
        self._period = period
        self.slot = 0
        """The next one to run."""
        self.skipped = 0
        """The number of slots that were missed right before it."""

    def due_of(self, slot: int) -> float:
        """Return the time of a slot, by a multiplication: a sum of many periods would carry the rounding of each."""
        return self._origin + slot * self._period

    @property
    def due(self) -> float:
        return self.due_of(self.slot)

    def take(self) -> None:
        """Go on to the next slot, since the present one runs."""
        self.slot += 1
        self.skipped = 0

    def pass_over(self, now: float) -> int:
        """Miss every slot that was due before `now`; return how many."""
        if now <= self.due:
            return 0
        first = max(self.slot, math.ceil((now - self._origin) / self._period))
        # The division rounds, and what counts is when a slot is due as we say it.
        while first > self.slot and self.due_of(first - 1) >= now:
            first -= 1
        while self.due_of(first) < now:
            first += 1
        missed = first - self.slot
        self.slot = first
        self.skipped += missed
        return missed
