"""Being a subreaper: a process below this one that loses its parent becomes our child, and we have to wait for it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator

import trio

from taktora_trio.processes.procfs import process_stat, read_proc

__all__ = ["Reaper", "become_subreaper", "children", "reap"]

_PR_SET_CHILD_SUBREAPER = 36
_PAUSE = 0.05  # seconds: what follows from the end of a child of our own comes first, and an orphan can wait


def become_subreaper() -> None:
    """Make this process a subreaper, until it ends (PR_SET_CHILD_SUBREAPER, prctl(2)). Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


class Reaper:
    """Waits for the children that were left to us, soon after they end, and never for one of our own.

    A child of our own must be started within `starting`, and `started` be called before anything else can run. Children
    that are there when the reaper is made count as our own.
    """

    def __init__(self) -> None:
        self._own = {pid for pid, _ in children()}
        self._starting = 0

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Start a child of our own in the block. No child is waited for meanwhile, for this one is not known yet."""
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
            try:
                self.reap()
                async for _ in signals:
                    await trio.sleep(_PAUSE)
                    self.reap()
            finally:
                self.reap()  # what ends within the last pause would be left to whoever comes after us

    def reap(self) -> None:
        """Wait for the children that have ended by now."""
        if self._starting:
            return
        for pid, is_zombie in children():
            if is_zombie and pid not in self._own:
                reap(pid)


def children() -> Iterator[tuple[int, bool]]:
    """Yield the id of each child, and true if it is a zombie: ended, and not waited for (proc_pid_task(5))."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            for pid in map(int, read_proc(f"/proc/self/task/{thread}/children").split()):
                yield pid, process_stat(pid)[0] == "Z"


def reap(pid: int) -> None:
    """Wait for a child that has ended, unless it was waited for."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
