"""Nothing that a half has started outlives it: not even what left its process group, or lost its parent.

The supervisor is a *subreaper* (PR_SET_CHILD_SUBREAPER, prctl(2)): whoever loses its parent below it becomes its own
child. Each half is started with a mark in its environment, which all its descendants inherit.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import attrs
import trio

from taktora_trio.supervision.pidfd import wait_for_exit

__all__ = ["Descendants", "become_subreaper"]

_PR_SET_CHILD_SUBREAPER = 36
_MARK = "TAKTORA_HALF"
_ROUNDS = 20  # killing one may make us the parent of another


def become_subreaper() -> None:
    """For this process, until it ends. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


@attrs.frozen
class Descendants:
    """Of one incarnation of a half."""

    mark: str
    """Unlike every other's."""

    @property
    def environment(self) -> dict[str, str]:
        return {_MARK: self.mark}

    async def end(self) -> list[int]:
        """Kill those that are our own children by now, and theirs; return who they were."""
        ended: list[int] = []
        for _ in range(_ROUNDS):
            found = list(self._children())
            if not found:
                break
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                await wait_for_exit(pid)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it has ended, so nothing waits
            ended += found
        await trio.lowlevel.checkpoint()
        return ended

    def _children(self) -> Iterator[int]:
        wanted = f"{_MARK}={self.mark}".encode()
        for pid in _children():
            with contextlib.suppress(OSError):
                if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    yield pid


def _children() -> list[int]:
    me = str(os.getpid())
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                # After the program's name, which may hold any character: state, parent (proc(5)).
                if Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1] == me:
                    found.append(int(name))
    return found
