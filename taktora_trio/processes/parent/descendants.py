"""Ending all that a child has started: also processes that left its process group, or lost their parent.

Each child is started with a mark in its environment, which all its descendants inherit. One that loses its parent
becomes a child of the supervisor, which is a subreaper.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Literal

import msgspec
import trio

from taktora_trio.processes.parent.subreaper import children, reap
from taktora_trio.processes.pidfd import wait_for_exit
from taktora_trio.processes.procfs import process_stat, read_proc

__all__ = ["Descendants"]

_MARK = "TAKTORA_HALF"
_ROUNDS = 20  # killing one may make us the parent of another
_PAUSE = 0.02  # seconds; an execve takes less as a rule, and nothing announces its end
_ENV_END = 48  # of `process_stat`


class Descendants(msgspec.Struct, frozen=True):
    """The descendants of one incarnation of a child."""

    mark: str
    """A text that no other incarnation has."""

    @property
    def environment(self) -> dict[str, str]:
        """Variables for the child's environment."""
        return {_MARK: self.mark}

    async def end(self) -> list[int]:
        """Kill those that are our own children by now, and their children. Returns the process ids."""
        ended: list[int] = []
        for _ in range(_ROUNDS):
            living = [pid for pid, is_zombie in children() if not is_zombie]
            kinds = {pid: self._kind(pid) for pid in living}
            found, dying, executing = (
                [pid for pid, kind in kinds.items() if kind == wanted] for wanted in ("marked", "dying", "executing")
            )
            if not found and not dying and not executing:
                break
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for pid in (*found, *dying):
                await wait_for_exit(pid)
            for pid in found:
                reap(pid)
            ended += found
            if executing:
                await trio.sleep(_PAUSE)
        await trio.lowlevel.checkpoint()
        return ended

    def _kind(self, pid: int) -> Literal["marked", "dying", "executing", "other"]:
        """Say what a child is: one with our mark, one whose mark can't be read now, or none of ours.

        One that is *dying* has given up its memory, with its environment, and not ended yet: its children are about to
        become ours. One that is *executing* is within execve(2): its environment can't be read in its new memory yet.
        """
        environment = None
        with contextlib.suppress(OSError):
            environment = read_proc(f"/proc/{pid}/environ")
        if environment:
            return "marked" if f"{_MARK}={self.mark}".encode() in environment.split(b"\0") else "other"
        with contextlib.suppress(OSError):
            if read_proc(f"/proc/{pid}/statm").startswith(b"0 "):
                return "dying"
            if environment is not None and process_stat(pid)[_ENV_END] == "0":
                return "executing"
        return "other"
