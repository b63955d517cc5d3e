"""Ranges: a set of whole numbers that takes memory by run of numbers, not by number."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

__all__ = ["Ranges"]


class Ranges:
    """Whole numbers from 0 to 2**63, as ascending bounds: each range's first number, and the one behind its last.

    So a number is in the set if an odd count of bounds is at or below it.
    """

    __slots__ = ("bounds", "count")

    def __init__(self, bounds: Iterable[int] = ()) -> None:
        """Raises `ValueError` for bounds that are none."""
        try:
            self.bounds = array("Q", bounds)
        except (OverflowError, TypeError) as exc:
            raise ValueError("bounds are whole numbers, from 0 up") from exc
        starts, ends = self.bounds[::2], self.bounds[1::2]
        if len(starts) != len(ends) or any(a >= b for a, b in zip(self.bounds, self.bounds[1:], strict=False)):
            raise ValueError("bounds are pairs, and ascend")
        self.count = sum(ends) - sum(starts)

    def __repr__(self) -> str:
        return f"Ranges({', '.join(f'{first}-{last}' for first, last in self)})"

    def __bool__(self) -> bool:
        return self.count > 0

    def __contains__(self, number: int) -> bool:
        return bisect_right(self.bounds, number) % 2 == 1

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges, in order: the first number of each, and its last."""
        return ((first, end - 1) for first, end in zip(self.bounds[::2], self.bounds[1::2], strict=True))

    def add(self, first: int, last: int) -> None:
        """Add all numbers from `first` to `last`."""
        if self.bounds and self.bounds[-1] == first:  # they follow the last one, as most do
            self.bounds[-1] = last + 1
            self.count += last + 1 - first
            return
        self.count += last + 1 - first - self.count_within(first, last)
        i, j = bisect_left(self.bounds, first), bisect_right(self.bounds, last + 1)
        edges = ([] if i % 2 else [first]) + ([] if j % 2 else [last + 1])
        self.bounds[i:j] = array("Q", edges)

    def remove(self, first: int, last: int) -> int:
        """Remove all numbers from `first` to `last`; return how many there were."""
        removed = self.count_within(first, last)
        if removed:
            self.count -= removed
            i, j = bisect_left(self.bounds, first), bisect_right(self.bounds, last + 1)
            edges = ([first] if i % 2 else []) + ([last + 1] if j % 2 else [])
            self.bounds[i:j] = array("Q", edges)
        return removed

    def within(self, first: int, last: int) -> Ranges:
        """Return those of its numbers that are from `first` to `last`."""
        return Ranges(self._bounds_within(first, last))

    def count_within(self, first: int, last: int) -> int:
        """Return how many numbers it has from `first` to `last`."""
        bounds = self._bounds_within(first, last)
        return sum(bounds[1::2]) - sum(bounds[::2])

    def _bounds_within(self, first: int, last: int) -> array[int]:
        i, j = bisect_right(self.bounds, first), bisect_left(self.bounds, last + 1)
        if last < first:
            return array("Q")
        bounds = self.bounds[i:j]
        if i % 2:
            bounds.insert(0, first)
        if j % 2:
            bounds.append(last + 1)
        return bounds

    def lowest(self, count: int, above: int = 0) -> Ranges:
        """Return its lowest `count` numbers that are higher than `above`."""
        taken = array("Q")
        i = bisect_right(self.bounds, above + 1)
        for at in range(i - i % 2, len(self.bounds), 2):
            first, end = max(self.bounds[at], above + 1), self.bounds[at + 1]
            if count <= 0:
                break
            end = min(end, first + count)
            taken.extend((first, end))
            count -= end - first
        return Ranges(taken)
