"""Figures, each beside its target."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs
import msgspec

__all__ = ["Figure", "median_of_ratios", "report_json", "table"]


@attrs.frozen(kw_only=True)
class Figure:
    """One promise and what was measured of it: a ratio to a peer (unit `x`), or an amount."""

    what: str
    measured: float
    target: float
    unit: str
    at_most: bool
    """Whether the target is a limit from above, or from below."""
    beside: str
    """What the measured value was made of, side by side, for people."""

    @property
    def ok(self) -> bool:
        return self.measured <= self.target if self.at_most else self.measured >= self.target


def median_of_ratios(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Of each round by itself, since neighbours in time share the machine's mood."""
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


def table(figures: Sequence[Figure]) -> str:
    rows = [("what", "measured", "target", "", "medians side by side")]
    rows += [
        (
            figure.what,
            f"{figure.measured:.2f} {figure.unit}",
            f"{'at most' if figure.at_most else 'at least'} {figure.target:g} {figure.unit}",
            "ok" if figure.ok else "missed",
            figure.beside,
        )
        for figure in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def report_json(figures: Sequence[Figure]) -> bytes:
    return msgspec.json.format(
        msgspec.json.encode([{**attrs.asdict(figure), "ok": figure.ok} for figure in figures]), indent=2
    )
