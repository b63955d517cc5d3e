"""Each block of code of the README and of the docs runs, or says why it can't."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import Block, steps_of
from tests.docs.running import open_page
from tests.test_docs import PAGES

NOT_YET = {
    *("CONTRIBUTING.md", "docs/release.md"),
    *(f"docs/{name}.md" for name in ("architecture", "chaos", "connectors", "delivery", "executor", "health")),
    *(f"docs/{name}.md" for name in ("operating", "pythons", "scaling-out", "supervision", "topics")),
}
WITH_BLOCKS = [page for page in PAGES if any(isinstance(step, Block) for step in steps_of(PAGES[page]))]


@pytest.mark.parametrize("page", [page for page in WITH_BLOCKS if page not in NOT_YET])
async def test_the_blocks_run(page: str, tmp_path: Path) -> None:
    if "\nmosquitto_pub " in PAGES[page] and shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not installed (Debian: apt-get install mosquitto-clients)")
    async with open_page(tmp_path) as opened:
        for step in steps_of(PAGES[page]):
            await opened.take(step)
