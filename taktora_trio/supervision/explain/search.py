"""Binary search among whole numbers of any size (`bisect` stops at 2**63)."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["first_where"]


def first_where(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the first number from `low` for which it holds, as for all after it; `high` if it does for none before."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
