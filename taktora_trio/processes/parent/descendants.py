"""Ending all that a child has started: also processes that left its process group, or lost their parent.

The supervisor is a *subreaper* (PR_SET_CHILD_SUBREAPER, prctl(2)): a process below it that loses its parent becomes a
child of the supervisor. Each child is started with a mark in its environment, which all its descendants inherit.
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

from taktora_trio.processes.pidfd import wait_for_exit
from taktora_trio.processes.procfs import process_stat

__all__ = ["Descendants", "Reaper", "become_subreaper", "children"]

_PR_SET_CHILD_SUBREAPER = 36
_MARK = "TAKTORA_HALF"
_ROUNDS = 20  # killing one may make us the parent of another


def become_subreaper() -> None:
    """Make this process a subreaper, until it ends. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


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
            if not found and not dying:
                break
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for pid in (*found, *dying):
                await wait_for_exit(pid)
            for pid in found:
                _reap(pid)
            ended += found
        await trio.lowlevel.checkpoint()
        return ended

    def _is_marked(self, pid: int) -> bool:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
        return f"{_MARK}={self.mark}".encode() in environment.split(b"\0")


def _is_dying(pid: int) -> bool:
    """True if a process has given up its memory, with its environment, and not ended yet (proc_pid_statm(5))."""
    try:
        return Path(f"/proc/{pid}/statm").read_text().startswith("0 ")
    except OSError:
        return False


class Reaper:
    """Waits for the children that were left to us, as soon as they end, and never for one of our own.

    A child of our own must be started within `starting`, and `started` be called before anything else can run. Children
    that are there when the reaper is made, such as an embedded broker, count as our own.
    """

    def __init__(self) -> None:
        self._own = {pid for pid, _ in children()}
        self._starting = 0

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Wait for nobody in the block, in which a child of our own is started that is not known yet."""
        self._starting += 1
        try:
            yield
        finally:
            self._starting -= 1
            self.reap()

    def started(self, pid: int) -> None:
        """Take a child for our own."""
        self._own.add(pid)

    def ended(self, pid: int) -> None:
        """Forget a child of our own that was waited for."""
        self._own.discard(pid)

    async def serve(self) -> None:
        """Wait for children as they end, in the main thread. Runs until cancelled."""
        with trio.open_signal_receiver(signal.SIGCHLD) as signals:
            self.reap()
            async for _ in signals:
                self.reap()

    def reap(self) -> None:
        """Wait for the children that have ended by now."""
        if self._starting:
            return
        for pid, is_zombie in children():
            if is_zombie and pid not in self._own:
                _reap(pid)


def children() -> Iterator[tuple[int, bool]]:
    """Yield the id of each child, and true if it is a zombie: ended, and not waited for (proc_pid_task(5))."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            for pid in map(int, Path(f"/proc/self/task/{thread}/children").read_text().split()):
                yield pid, process_stat(pid)[0] == "Z"


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
