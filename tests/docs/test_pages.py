"""Each block of code of the README and of the docs runs, or says why it can't."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.command import ROOT
from tests.docs.blocks import Block, steps_of
from tests.docs.running import open_page
from tests.docs.tutorial import sections
from tests.test_docs import PAGES

AT_MOST_NOT_RUN = 20
"""Blocks that need what a test has not: other machines, root, minutes. Raise it if a new one can't be run either."""
WITH_BLOCKS = [page for page in PAGES if any(isinstance(step, Block) for step in steps_of(PAGES[page]))]
LONG = ("docs/tutorial.md", "docs/how-to/test-your-app.md")  # of many commands: `make operate` has the time


def marks_of(page: str) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.operate] if page in LONG else []
    return [*marks, pytest.mark.zenoh] if "zenoh" in page else marks


@pytest.mark.timeout(240)  # a page of many commands, on a busy machine
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=marks_of(page)) for page in WITH_BLOCKS],
)
async def test_the_blocks_run(page: str, tmp_path: Path) -> None:
    if "\nmosquitto_pub " in PAGES[page] and shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not installed (Debian: apt-get install mosquitto-clients)")
    async with open_page(tmp_path) as opened:
        for step in steps_of(PAGES[page]):
            await opened.take(step)


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    blocks = [(page, step) for page in WITH_BLOCKS for step in steps_of(PAGES[page]) if isinstance(step, Block)]
    not_run = [(page, block.line, block.why_not) for page, block in blocks if block.why_not is not None]
    assert len(not_run) <= AT_MOST_NOT_RUN, "\n".join(map(str, not_run))
    markers = sum(len(re.findall(r"^\*Not run by the tests\b", text, re.MULTILINE)) for text in PAGES.values())
    assert markers == len(not_run), "such a line stands right above its block, and ends with a full stop"


def test_the_tutorial_leaves_two_of_its_ten_minutes_to_the_commands() -> None:
    assert sum(section.reading for section in sections()) <= 8 * 60


def test_each_example_is_on_the_page_with_its_purpose() -> None:
    listed = re.findall(r"^\| `([\w.]+)` \| \S", PAGES["docs/apps.md"], re.MULTILINE)
    there = {path.name for path in (ROOT / "examples").glob("*.py")} | {
        path.parent.name for path in (ROOT / "examples").glob("*/__init__.py")
    }
    assert sorted(listed) == sorted(there - {"__init__.py"})
