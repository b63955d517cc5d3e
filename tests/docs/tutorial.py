"""How long the tutorial takes: a scripted reader reads it, and runs each of its commands in an empty folder.

    python -m tests.docs.tutorial

It reads prose and code alike at 200 words a minute. It makes the environment of step 1, and installs this checkout in
it. A command takes as long as it needs to end, or to write what the page shows of it.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import attrs
import trio

from tests.command import ROOT
from tests.docs.blocks import COMMENT, steps_of
from tests.docs.running import open_page

PAGE = ROOT / "docs" / "tutorial.md"
WORDS_A_MINUTE = 200


@attrs.frozen
class Section:
    """One step of the tutorial."""

    title: str
    text: str

    @property
    def reading(self) -> float:
        """Seconds."""
        return 60 * len(self.words) / WORDS_A_MINUTE

    @property
    def words(self) -> list[str]:
        """What a reader reads, in prose and in code."""
        return re.findall(r"\w[\w'.:/-]*", COMMENT.sub("", self.text))


def sections() -> list[Section]:
    first, *others = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    return [Section("the beginning", first), *(Section(text.partition("\n")[0], text) for text in others)]


async def read() -> None:
    print(f"{'step':45} {'words':>6} {'reading':>9} {'commands':>9}")
    reading = commands = words = 0.0
    with tempfile.TemporaryDirectory() as folder:
        async with open_page(Path(folder), sets_up=True) as page:
            for section in sections():
                begun = trio.current_time()
                for step in steps_of(section.text):
                    await page.take(step)
                seconds = trio.current_time() - begun
                print(
                    f"{section.title:45} {len(section.words):6} {section.reading:7.0f} s {seconds:7.1f} s", flush=True
                )
                reading, commands, words = reading + section.reading, commands + seconds, words + len(section.words)
    print(f"{'all':45} {words:6.0f} {reading:7.0f} s {commands:7.1f} s    {(reading + commands) / 60:.1f} minutes")


if __name__ == "__main__":
    trio.run(read)
