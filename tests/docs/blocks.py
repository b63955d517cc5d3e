"""A page as the tests read it: its blocks of code in order, and what comments beside them ask for.

A comment is not shown where the page is read:

    <!-- run CODE -->           the next block is a part: it stands in CODE where CODE has the line HERE, or behind CODE
    <!-- run virtually CODE --> the same, on trio's virtual clock
    <!-- given CODE -->         CODE is run here, for what follows
    <!-- keep running -->       the next block starts what goes on, until a `<!-- stop -->`, which is a Ctrl-C
    <!-- stop when LINE -->     the same, when it has written this
    <!-- output -->             the next block is what the last command writes; `...` stands for anything
    <!-- own NAME -->           NAME (a deployment's, or a port) is another one in each run of the tests

A block that can't be run has a line above it that says why, for readers too: `*Not run by the tests: ....*`
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import attrs

__all__ = ["Block", "Own", "Step", "Stop", "steps_of"]

FENCE = re.compile(r"^( *)```(\{?[\w-]*\}?)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!-- *(run virtually|run|given|keep running|stop when|stop|output|own)\b *(.*?) *-->", re.DOTALL)
NOT_RUN = re.compile(r"\*Not run by the tests: (.+?)\.\*\n+$", re.DOTALL)


@attrs.frozen
class Block:
    """One block of code, with what the comments before it say."""

    kind: str
    code: str
    line: int
    context: str | None = None
    virtual: bool = False
    keeps_running: bool = False
    is_output: bool = False
    why_not: str | None = None
    """The reason that the page gives for not running it."""

    @property
    def file(self) -> str | None:
        """The file that it is, if its first line says so: `# greenhouse.py`."""
        named = re.match(r"# ([\w/.-]+\.\w+)$", self.code.partition("\n")[0])
        return named and named[1]

    @property
    def whole(self) -> str:
        """The code with its context."""
        if self.context is None:
            return self.code
        if (here := re.search(r"^( *)HERE$", self.context, re.MULTILINE)) is None:
            return f"{self.context}\n\n{self.code}"
        code = "\n".join(f"{here[1]}{line}" if line else "" for line in self.code.splitlines())
        return f"{self.context[: here.start()]}{code}{self.context[here.end() :]}\n"


@attrs.frozen
class Stop:
    """What runs is stopped by Ctrl-C."""

    when: str = ""
    """The line that it has written by then."""


@attrs.frozen
class Own:
    """This name is another one in each run."""

    name: str
    kind: Literal["port", "deployment"]


Step = Block | Stop | Own


def steps_of(text: str) -> Iterator[Step]:
    """Yield what is to be done for a page, in order."""
    asked: dict[str, str] = {}
    end = 0
    for found in re.finditer(f"{FENCE.pattern}|{COMMENT.pattern}", text, re.MULTILINE | re.DOTALL):
        indent, kind, code, comment, more = found.groups()
        more = (more or "").strip()
        if comment in ("stop", "stop when"):
            yield Stop(more)
        elif comment == "given":
            yield Block("python", more, text.count("\n", 0, found.start()) + 1)
        elif comment == "own":
            yield Own(more, "port" if more.isdigit() else "deployment")
        elif comment is not None:
            asked[comment] = more
        else:
            why_not = NOT_RUN.search(text, end, found.start())
            yield Block(
                kind,
                re.sub(rf"^{indent}", "", code, flags=re.MULTILINE),
                text.count("\n", 0, found.start()) + 1,
                asked.get("run", asked.get("run virtually")),
                "run virtually" in asked,
                "keep running" in asked,
                "output" in asked,
                why_not and " ".join(why_not[1].split()),
            )
            asked = {}
        end = found.end()
