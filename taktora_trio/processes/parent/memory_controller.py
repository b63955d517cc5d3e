"""The control group by which the memory of this process is limited, and whom the kernel has killed in it (cgroups(7)).

Both versions of control groups are known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import attrs

from taktora_trio.processes.procfs import read_proc

__all__ = ["MemoryController", "memory_controller", "out_of_memory_kills"]


@attrs.frozen
class MemoryController:
    """Where the memory of a process is accounted."""

    folder: Path
    """Its group."""
    is_first: bool
    """True for version 1, in which a group may have both processes and groups."""

    def count(self) -> Callable[[], int]:
        """Return what counts the processes of this very group that the kernel has killed for want of memory.

        Raises `OSError` where that is not counted.
        """
        counted = "memory.oom_control" if self.is_first else "memory.events.local"
        file = str(self.folder / counted)
        if _count_in(file) is None:
            raise OSError(f"{file} counts none")
        return lambda: _count_in(file) or 0


def memory_controller(proc: Path = Path("/proc/self")) -> MemoryController | None:
    """Return that of this process; `None` where there is none to be seen."""
    try:
        own = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
        mounts = [line.partition(" - ") for line in (proc / "mountinfo").read_text().splitlines()]
    except OSError:
        return None
    paths = {controllers: path for _, controllers, path in own}
    first = next((path for controllers, path in paths.items() if "memory" in controllers.split(",")), None)
    for place, _, kind in mounts:
        _, _, _, root, point, *_ = place.split()
        name, _, options = kind.split()
        if first is not None:
            if name == "cgroup" and "memory" in options.split(",") and (inner := _below(first, root)) is not None:
                return MemoryController(Path(point) / inner, is_first=True)
        elif name == "cgroup2" and (inner := _below(paths.get("", "/"), root)) is not None:
            folder = Path(point) / inner
            with contextlib.suppress(OSError):
                if "memory" in (folder / "cgroup.controllers").read_text().split():
                    return MemoryController(folder, is_first=False)
    return None


def out_of_memory_kills() -> int:
    """Count the processes that the kernel has killed for want of memory, in the group of this process alone.

    Where that is not known, it counts those of the whole machine, of which most have nothing to do with us.
    """
    return _counter()()


@cache
def _counter() -> Callable[[], int]:
    if (controller := memory_controller()) is not None:
        with contextlib.suppress(OSError):
            return controller.count()
    return lambda: _count_in("/proc/vmstat") or 0  # proc_vmstat(5)


def _count_in(file: str) -> int | None:
    try:
        _, _, after = (b"\n" + read_proc(file)).partition(b"\noom_kill ")
    except OSError:
        return None
    return int(after.split(maxsplit=1)[0]) if after else None


def _below(path: str, root: str) -> str | None:
    """Return a group's path from the root of a mount on; `None` if it is not below that."""
    if root == "/":
        return path.lstrip("/")
    return path.removeprefix(root).lstrip("/") if path == root or path.startswith(f"{root}/") else None
