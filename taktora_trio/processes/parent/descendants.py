"""Ending all that a child has started: also processes that left its process group, or lost their parent.

Each child is started with a mark in its environment, which all its descendants inherit. One that loses its parent
becomes a child of the supervisor, which is a subreaper.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import attrs
import trio

from taktora_trio.processes.parent.subreaper import children, reap
from taktora_trio.processes.pidfd import wait_for_exit
from taktora_trio.processes.procfs import process_stat

__all__ = ["Descendants"]

_MARK = "TAKTORA_HALF"
_ROUNDS = 20  # killing one may make us the parent of another
_PAUSE = 0.02  # seconds; an execve takes less as a rule, and nothing announces its end
_ENV_END = 48  # of `process_stat`


@attrs.frozen
class Descendants:
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
            found = [pid for pid in living if self._is_marked(pid)]
            dying = [pid for pid in living if _is_dying(pid)]  # whose children are about to become ours
            executing = [pid for pid in living if _is_executing(pid) and pid not in dying]
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

    def _is_marked(self, pid: int) -> bool:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
        return f"{_MARK}={self.mark}".encode() in environment.split(b"\0")


def _is_executing(pid: int) -> bool:
    """True if a process is within execve(2): it has its new memory, and its environment can't be read there yet."""
    try:
        return not Path(f"/proc/{pid}/environ").read_bytes() and process_stat(pid)[_ENV_END] == "0"
    except OSError:
        return False


def _is_dying(pid: int) -> bool:
    """True if a process has given up its memory, with its environment, and not ended yet (proc_pid_statm(5))."""
    try:
        return Path(f"/proc/{pid}/statm").read_text().startswith("0 ")
    except OSError:
        return False
