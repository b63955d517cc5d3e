"""Figures in the docs say by which command they were measured, when, and on which machine."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.test_docs import PAGES

HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
# A grid of `benchmarks.report`, or a row of a page's own table with two amounts or more.
GRID = re.compile(r"^```text\n(?:.+\n){1,2}-{20,}\n", re.MULTILINE)
AMOUNT = r"\| *\d[\d,.]*(?: (?:s|ms|us|kB|MB|GB|x|%))? *(?=\|)"
ROW = re.compile(rf"^\|.*?{AMOUNT}.*?{AMOUNT}.*$", re.MULTILINE)
NAMED = {
    "command": re.compile(r"`(?:python -m (?:benchmarks|tests)\.|make |taktora-trio chaos )"),
    "date": re.compile(r"\b20\d\d-\d\d-\d\d\b"),
    "machine": re.compile(r"\bcores\b|same on every machine"),
}
# Their numbers are settings, sizes and versions.
NOT_MEASURED = {f"docs/{name}.md" for name in ("architecture", "operating", "supervision", "pythons")}
WITH_FIGURES = [page for page in PAGES if re.fullmatch(r"docs/[\w-]+\.md", page) and page not in NOT_MEASURED]


@pytest.mark.parametrize("page", WITH_FIGURES)
def test_a_table_of_figures_has_a_command_a_date_and_a_machine(page: str) -> None:
    for heading, text in sections(PAGES[page]):
        for table in (*GRID.finditer(text), *ROW.finditer(text)):
            before = text[: table.start()]
            assert [name for name, pattern in NAMED.items() if not pattern.search(before)] == [], (heading, table[0])


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield each heading with what is below it up to the next one, behind what its parents say, but not the page's."""
    above: list[tuple[int, str]] = []
    heads = [*HEADING.finditer(re.sub(r"^ *```.*?^ *```$", blanked, text, flags=re.MULTILINE | re.DOTALL))]
    for at, head in enumerate(heads):
        level = len(head[1])
        above = [(its, said) for its, said in above if its < level]
        own = text[head.end() : heads[at + 1].start() if at + 1 < len(heads) else None]
        yield head[2], "".join(said for its, said in above if its > 1) + own
        above.append((level, re.sub(r"^```.*?^```$", "", own, flags=re.MULTILINE | re.DOTALL)))


def blanked(block: re.Match[str]) -> str:
    """Return as many characters, so that a comment in a script is no heading."""
    return " " * len(block[0])
