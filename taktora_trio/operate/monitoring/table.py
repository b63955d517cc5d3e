"""Rows as lines, each column as wide as it has to be."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["table"]


def table(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Return the rows as lines; `sides` has `<` for each column that stands at the left, and `>` for others."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(sides))]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]
