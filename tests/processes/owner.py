"""A supervisor in a process of its own, for what a test process is not to do to itself: be a subreaper, be stopped.

python -m tests.processes.owner POLICY CODE     supervises one child that runs CODE; prints what came of it
"""

from __future__ import annotations

import os
import sys

import attrs
import msgspec
import psutil
import trio

from taktora_trio.processes.parent import as_process, spawn
from taktora_trio.processes.parent.subreaper import Reaper, become_subreaper
from taktora_trio.supervision.supervisor import Supervisor
from tests.processes.children import POLICY, program


class Report(msgspec.Struct):
    """The result, which is printed at the end."""

    kind: str
    description: str
    lines: list[str]
    children: list[tuple[int, str]]
    """Those that are left, with their state."""


async def main(policy: str, code: str, pipe: int) -> Report:
    become_subreaper()
    lines: list[str] = []
    chosen = attrs.evolve(POLICY, restart="never").changed(policy)
    runner = as_process(
        "child",
        spawn(program(code, pipe), [pipe]),
        chosen,
        write=lambda stream, line: lines.append(line.decode()),
        on_end=Reaper().reap,
    )
    exit_ = await Supervisor("child", runner, chosen, revivable=False).run()
    assert exit_ is not None
    left = [(child.pid, str(child.status())) for child in psutil.Process().children(recursive=True)]
    return Report(exit_.kind, exit_.description, lines, left)


if __name__ == "__main__":
    report = trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
    os.write(1, msgspec.json.encode(report))
