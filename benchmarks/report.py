"""Figures, each beside its target."""

from __future__ import annotations

import math
import os
import platform
import re
import statistics
from collections.abc import Sequence
from importlib.metadata import version

import attrs
import msgspec

__all__ = ["Figure", "as_documents", "grid", "machine", "median_of_ratios", "percentile", "report_json", "table"]


_NUMBER = re.compile(r"[\d,.]*|-")


@attrs.frozen(kw_only=True)
class Figure:
    """One promise and what was measured of it: a ratio to a peer (unit `x`), or an amount."""

    what: str
    measured: float
    target: float
    unit: str
    at_most: bool
    """True if the target is a limit from above, false if it is one from below."""
    beside: str
    """The values that it was made of, side by side, for people."""

    @property
    def ok(self) -> bool:
        return self.measured <= self.target if self.at_most else self.measured >= self.target


def median_of_ratios(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of each round's own ratio, since neighbours in time share the machine's mood."""
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share (0 to 1) of them do not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


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
    return grid(rows)


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows under a headline, in columns; those of numbers are set to the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    amounts = [all(map(_NUMBER.fullmatch, column[1:])) for column in columns]
    lines = [
        "  ".join(
            cell.rjust(width) if amount else cell.ljust(width)
            for cell, width, amount in zip(row, widths, amounts, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def machine(*more: str) -> str:
    """Return a line about the machine and the versions, of `more` packages too, for people."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("trio", "iceoryx2", "aiomqtt", "paho-mqtt", *more))
    load = os.getloadavg()[0]
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},"
        f" {packages}; load average at the start {load:.1f}"
    )


def report_json(figures: Sequence[Figure]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(as_documents(figures)), indent=2)


def as_documents(figures: Sequence[Figure]) -> list[dict[str, object]]:
    return [{**attrs.asdict(figure), "ok": figure.ok} for figure in figures]
