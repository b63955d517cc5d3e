"""Filling: how full a store is, and when it will be at the present rate. Pure: the time is an argument."""

from __future__ import annotations

from collections import deque

__all__ = ["WARN_AT", "Filling", "rounded"]

WARN_AT = 0.8
"""The part of its limit from which a store is shown as filling up."""
FULL_AT = 0.99
"""The part of its limit from which it is called full: the next message may be larger than what is left."""
_OVER = 60.0  # seconds over which the rate is taken
_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60))


class Filling:
    """Looks at one limit again and again."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: deque[tuple[float, int]] = deque()

    @property
    def full_in(self) -> float | None:
        """The seconds until the limit is reached at the present rate; `None` if it does not get fuller."""
        if len(self._seen) < 2:
            return None
        (since, before), (now, used) = self._seen[0], self._seen[-1]
        if used <= before or now <= since:
            return None
        return max(0.0, (self._limit - used) * (now - since) / (used - before))

    def look(self, now: float, used: int) -> str | None:
        """Return a remark for people if the limit is near; it changes seldom. `None` if there is nothing to say."""
        seen = self._seen
        seen.append((now, used))
        while len(seen) > 2 and now - seen[1][0] >= _OVER:
            seen.popleft()
        if used < WARN_AT * self._limit:
            return None
        if used >= FULL_AT * self._limit:
            return "full"
        percent = int(100 * used / self._limit) // 5 * 5
        left = self.full_in
        if left is None:
            return f"{percent} % full"
        return f"{percent} % full; at the present rate it is full in {rounded(left)}"


def rounded(seconds: float) -> str:
    """Return a time in words, rounded to one of few values, so that it does not change all the time."""
    for unit, length in _UNITS:
        if seconds >= length:
            count = int(seconds // length)
            count = next((step for step in (30, 10, 5, 2) if count >= step), 1)
            return f"about {count} {unit}{'s' * (count > 1)}"
    return "less than a minute"
