"""Processes, as the kernel shows them (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import trio

from taktora_trio.chaos.looking import look_until
from taktora_trio.processes.procfs import process_stat

__all__ = ["Process", "descendants", "is_running", "look_at", "wait_until_gone"]


@attrs.frozen
class Process:
    """A process as it was when we looked."""

    pid: int
    parent: int
    state: str
    """One letter: `R`, `S`, `D` for a living one, `T` for a stopped one, `Z` for a zombie."""
    started: int
    """Its start in clock ticks since boot: with the process id it tells processes apart."""
    command: str

    @property
    def is_zombie(self) -> bool:
        return self.state in "ZX"


def look_at(pid: int) -> Process | None:
    """Return the process, if it exists."""
    try:
        state, parent, *rest = process_stat(pid)
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(pid, int(parent), state, int(rest[17]), command)


def descendants(pid: int) -> list[Process]:
    """Return all below this process, zombies too."""
    everybody = [found for name in os.listdir("/proc") if name.isdigit() and (found := look_at(int(name)))]
    family = {pid}
    while more := {process.pid for process in everybody if process.parent in family} - family:
        family |= more
    return [process for process in everybody if process.pid in family - {pid}]


def is_running(process: Process) -> bool:
    """Return true if it is still the same process, and no zombie: that is somebody else's to reap."""
    now = look_at(process.pid)
    return now is not None and now.started == process.started and not now.is_zombie


async def wait_until_gone(processes: list[Process], seconds: float) -> list[Process]:
    """Wait for their end; return those that are there after `seconds`."""
    with trio.move_on_after(seconds):
        await look_until(lambda: not any(map(is_running, processes)))
    return [process for process in processes if is_running(process)]
