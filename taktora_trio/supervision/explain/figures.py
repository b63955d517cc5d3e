"""Figures for people: durations, ordinals, and numbers of three digits."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["duration", "ordinal", "three_digits"]


def duration(seconds: float) -> str:
    """Return a duration in the largest unit of which it has at least ten."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 10 * size:
            return f"{_number(seconds / size)} {unit}"
    return f"{_number(seconds)} s"


def ordinal(count: int) -> str:
    """Return `1st`, `2nd`, and so on."""
    suffix = "th" if 10 <= count % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{suffix}"


def three_digits(value: float, to: Callable[[float], int]) -> float:
    """Round to three digits with `to`: `math.floor` or `math.ceil`."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{to(value / step) * step:.3g}")


def _number(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 1000 else f"{seconds:.0f}"
