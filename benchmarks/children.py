"""Processes for the time of a benchmark."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import attrs
import psutil
import trio

from taktora_trio.processes.parent import stop_process

__all__ = ["HERE", "ROOT", "Tree", "halves_of", "open_child", "open_python"]

ROOT = Path(__file__).parents[1]
_GRACE = 5.0


@attrs.frozen
class Tree:
    """A folder with the library and these benchmarks, and the interpreter that has what they need."""

    root: Path
    python: str = sys.executable
    variables: Mapping[str, str] = attrs.field(factory=dict)
    """Of the environment, over those that a process gets anyway."""


HERE = Tree(ROOT)


@contextlib.asynccontextmanager
async def open_child(
    command: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
    stderr: int | None = None,
    env: Mapping[str, str] | None = None,
    tree: Tree = HERE,
) -> AsyncIterator[trio.Process]:
    """Run `command` in the tree's folder while the block lasts; it and its group have ended after the block.

    Raises `RuntimeError` in the block if the process ends before it does: what it was to answer would never come.
    """
    env = {**(os.environ if env is None else env), **tree.variables}
    process = await trio.lowlevel.open_process(
        list(command), stdin=stdin, stdout=stdout, stderr=stderr, cwd=tree.root, env=env, process_group=0
    )

    async def watch() -> None:
        code = await process.wait()
        raise RuntimeError(f"{' '.join(command)} ended by itself, with exit code {code}")

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            yield process
            nursery.cancel_scope.cancel()
    finally:
        await stop_process(command[0], process, _GRACE)


def open_python(
    *arguments: str,
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
    stderr: int | None = None,
    env: Mapping[str, str] | None = None,
    tree: Tree = HERE,
) -> contextlib.AbstractAsyncContextManager[trio.Process]:
    """`open_child` of `python -m ...`."""
    command = [tree.python, "-m", *arguments]
    return open_child(command, stdin=stdin, stdout=stdout, stderr=stderr, env=env, tree=tree)


def halves_of(supervisor: int) -> dict[str, int]:
    """Return the process ids of a split deployment's halves, by name: `plugin` and `gateway`."""
    found: dict[str, int] = {}
    for child in psutil.Process(supervisor).children():
        command = child.cmdline()
        found.update({half: child.pid for half in ("plugin", "gateway") if half in command})
    return found
