"""The times from one message to the next: how many, how long, and how even. Pure."""

from __future__ import annotations

import math

import msgspec

__all__ = ["Gaps"]


class Gaps(msgspec.Struct):
    """Of one channel, over a time. Times in seconds."""

    messages: int = 0
    """Messages that were sent, also those that were not seen."""
    counted: int = 0
    """Gaps between two messages that follow one another and were both seen."""
    shortest: float = math.inf
    longest: float = 0.0
    _mean: float = 0.0
    _squares: float = 0.0
    _last: tuple[int, int] | None = None

    def add(self, number: int, sent_ns: int) -> None:
        """Take the next message that was seen: its number in the channel, and when it was sent."""
        before, self._last = self._last, (number, sent_ns)
        if before is None or number <= before[0]:  # the first, or the first of another run
            self.messages += 1
            return
        self.messages += number - before[0]
        if number == before[0] + 1:
            gap = max(0, sent_ns - before[1]) / 1e9
            self.counted += 1
            self.shortest, self.longest = min(self.shortest, gap), max(self.longest, gap)
            off = gap - self._mean  # Welford's way, which loses no digits
            self._mean += off / self.counted
            self._squares += off * (gap - self._mean)

    def next(self) -> Gaps:
        """Return those of the time that follows: its first gap begins at the last message of this one."""
        return Gaps(_last=self._last)

    @property
    def mean(self) -> float | None:
        return self._mean if self.counted else None

    @property
    def jitter(self) -> float | None:
        """The standard deviation of the gaps."""
        return math.sqrt(self._squares / (self.counted - 1)) if self.counted > 1 else None

    @property
    def least(self) -> float | None:
        return self.shortest if self.counted else None

    @property
    def most(self) -> float | None:
        return self.longest if self.counted else None
