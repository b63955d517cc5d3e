"""The tables of docs/delivery.md and of pages like it, as a program reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs

from tests.command import MODES

__all__ = ["Direction", "Outcome", "Row", "check_outcomes", "check_table", "outcome_of", "read_table"]

Direction: TypeAlias = Literal["out", "in"]
Outcome: TypeAlias = str
"""`once`, `lost`, `twice`, or `lost, twice`: what becomes of messages at the worst."""


@attrs.frozen
class Row:
    fault: str
    shape: str
    direction: Direction
    outcomes: tuple[Outcome, ...]
    """At QoS 0, 1 and 2, or whatever the table has a column for."""
    test: str
    """The name of the test that shows it."""


def read_table(page: Path) -> list[Row]:
    """The rows of the table in this page."""
    lines = page.read_text().split("<!-- table: begin -->")[1].split("<!-- table: end -->")[0].strip().splitlines()
    rows = []
    for line in lines[2:]:
        fault, shape, direction, *outcomes, test = [cell.strip() for cell in line.strip().strip("|").split("|")]
        assert direction in ("out", "in"), line
        rows.append(Row(fault, shape, direction, tuple(outcomes), test.strip("`")))  # type: ignore[arg-type]
    return rows


def outcome_of(came: Iterable[int], sent: Iterable[int]) -> Outcome:
    counts = Counter(came)
    wanted = set(sent)
    assert set(counts) <= wanted, f"came, and was never sent: {sorted(set(counts) - wanted)}"
    found = []
    if wanted - set(counts):
        found.append("lost")
    if any(count > 1 for count in counts.values()):
        found.append("twice")
    return ", ".join(found) or "once"


def check_outcomes(
    table: Iterable[Row],
    test: str,
    shape: str,
    outcomes: Mapping[Direction, Sequence[Outcome]],
    allowed: Mapping[Outcome, Collection[Outcome]],
) -> None:
    """Compare with what the table says of this test; `allowed` is what a word stands for that is not one outcome."""
    rows = [row for row in table if row.test == test and row.shape == shape]
    assert rows, f"the table has no row of {test} for {shape}; found: {outcomes}"
    for row in rows:
        for found, wanted in zip(outcomes[row.direction], row.outcomes, strict=True):
            assert found in allowed.get(wanted, {wanted}), f"{row}; found: {outcomes}"


def check_table(table: Sequence[Row], tests: Mapping[str, Any], words: Collection[Outcome], columns: int) -> None:
    """Check that each fault has all its cells, each with one of these words, and a test in its shape."""
    assert len({(row.fault, row.shape, row.direction) for row in table}) == len(table), "a row is there twice"
    for fault in dict.fromkeys(row.fault for row in table):
        cells = {(row.shape, row.direction) for row in table if row.fault == fault}
        assert cells == {(shape, direction) for shape in MODES for direction in ("out", "in")}, fault
    for row in table:
        assert set(row.outcomes) <= set(words), row
        assert len(row.outcomes) == columns, row
        test = tests.get(row.test)
        assert callable(test), f"{row.test} is not here"
        [shapes] = [mark.args[1] for mark in test.pytestmark if mark.name == "parametrize"]
        assert row.shape in shapes, f"{row.test} does not run in the {row.shape} shape"
