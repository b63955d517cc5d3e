"""A control group in which a child and all that it starts have a limit of memory together (cgroups(7)).

It is made below the group that this process is in, where its user may make one: as root, in a unit with `Delegate=yes`,
in a container that has its own groups.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import attrs

from taktora_trio.processes.parent.memory_controller import MemoryController, memory_controller, out_of_memory_kills
from taktora_trio.processes.procfs import process_stat

__all__ = ["MemoryGroup"]

log = logging.getLogger(__name__)


class MemoryGroup:
    """The group. It is made when the first child is to start, and removed by `close` when the last one has ended."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._folder: Path | None = None
        self._own: Path | None = None
        self._was_tried = False
        self._count: Callable[[], int] = out_of_memory_kills
        self._moved: list[Path] = []

    def open(self) -> bool:
        """Make it, unless that was tried before. Return whether there is one."""
        if not self._was_tried:
            self._was_tried = True
            if (controller := memory_controller()) is not None:
                try:
                    self._folder = self._make(controller)
                    with contextlib.suppress(OSError):
                        self._count = attrs.evolve(controller, folder=self._folder).count()
                except OSError:  # not ours to change
                    self.close()
            if self._folder is None:
                by_itself = "no control group can be made here: each process of %s gets the limit by itself"
                log.info(by_itself, self._name, extra={"event": "fence-by-process"})
        return self._folder is not None

    def add(self, pid: int) -> None:
        """Put a child that has just started there."""
        if self._folder is not None:
            try:
                _write(self._folder / "cgroup.procs", pid)
            except ProcessLookupError:
                pass  # it has ended
            except OSError as exc:
                log.warning("pid %d has no limit of memory: %s", pid, exc, extra={"event": "fence-lacking"})

    def kills(self) -> int:
        """Count the processes that the kernel has killed for want of memory; in this group, if there is one."""
        self.open()
        return self._count()

    def close(self) -> None:
        """Remove what was made. A group that still has processes is left: whoever ends those has failed already."""
        if self._folder is not None:
            _remove(self._folder)
            self._folder = None
        if self._own is not None:
            with contextlib.suppress(OSError):
                _write(self._own / "cgroup.subtree_control", "-memory")
            for folder in self._moved:
                for pid in _processes(folder):
                    with contextlib.suppress(OSError):
                        _write(self._own / "cgroup.procs", pid)
                _remove(folder)
            self._own, self._moved = None, []

    def _make(self, controller: MemoryController) -> Path:
        folder = controller.folder / self._name
        if not controller.is_first:
            self._own = controller.folder
            self._hand_out(controller.folder)
        folder.mkdir(exist_ok=True)  # there may be one of a run that was killed
        try:
            _write(folder / ("memory.limit_in_bytes" if controller.is_first else "memory.max"), self._limit)
        except OSError:
            _remove(folder)
            raise
        more_limits = {"memory.memsw.limit_in_bytes": self._limit, "memory.swap.max": 0, "memory.oom.group": 1}
        for more, value in more_limits.items():  # each is of one version, and some kernels have none
            with contextlib.suppress(OSError):
                _write(folder / more, value)
        return folder

    def _hand_out(self, own: Path) -> None:
        """Let groups below this one limit memory. For that it may have no processes, so ours get a group there too.

        Raises `OSError` if there are others in it, or if it may not be changed.
        """
        try:
            _write(own / "cgroup.subtree_control", "+memory")
        except OSError:
            if not all(map(_is_ours, _processes(own))):
                raise
            others = own / f"{self._name}-supervisor"
            others.mkdir(exist_ok=True)
            self._moved.append(others)
            for pid in _processes(own):
                _write(others / "cgroup.procs", pid)
            _write(own / "cgroup.subtree_control", "+memory")


def _processes(folder: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(line) for line in (folder / "cgroup.procs").read_text().split()]
    return []


def _is_ours(pid: int) -> bool:
    """True for this process and those below it."""
    while pid > 1 and pid != os.getpid():
        try:
            pid = int(process_stat(pid)[1])
        except OSError:  # it has ended
            return True
    return pid == os.getpid()


def _write(file: Path, value: object) -> None:
    # Never made here: in a folder that is no control group there is no such file.
    with file.open("r+") as opened:
        opened.write(str(value))


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is gone, or somebody is still in it
        folder.rmdir()
