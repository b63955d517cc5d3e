"""The numbers that an independent subscriber has seen. Pure."""

from __future__ import annotations

import attrs

__all__ = ["Tally"]


@attrs.define
class Tally:
    """Each series must come as 1, 2, 3, ...; what came before may come again."""

    last: dict[str, int] = attrs.field(factory=dict)
    """The highest number of each series, up to which all have come."""
    repeats: int = 0
    """Messages that had come before: allowed, and counted."""
    gaps: list[str] = attrs.field(factory=list)
    """In words: numbers that were left out or came too early."""

    def add(self, series: str, number: int) -> None:
        expected = self.last.get(series, 0) + 1
        if number < expected:
            self.repeats += 1
            return
        if number > expected:
            self.gaps.append(f"series {series}: after {expected - 1} came {number}")
        self.last[series] = number
