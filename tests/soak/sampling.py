"""What processes and files take, as the kernel says (proc(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import psutil

__all__ = ["files_in", "look_at_files", "look_at_process"]

_MB = 1e6
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


def look_at_process(pid: int, settled: float, now: float) -> dict[str, float]:
    """Return measures of a process; none if it is gone, or was started less than `settled` seconds before `now`.

    A process that has just started still takes what it needs. `now` is the time since the epoch.
    """
    place = Path(f"/proc/{pid}")
    try:
        if now - psutil.Process(pid).create_time() < settled:
            return {}
        found = _PSS.search((place / "smaps_rollup").read_text())
        resident = int((place / "statm").read_text().split()[1])
        measures = {
            "rss": resident * _PAGE / _MB,
            "descriptors": float(len(os.listdir(place / "fd"))),
            "threads": float(len(os.listdir(place / "task"))),
        }
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError, PermissionError):
        return {}  # it was killed meanwhile
    if found is None or not resident:
        return {}
    return {**measures, "pss": int(found[1]) * 1024 / _MB}


def look_at_files(paths: Iterable[Path]) -> tuple[int, float]:
    """Return how many there are, and the MB that they take."""
    count = blocks = 0
    for path in paths:
        try:
            blocks += path.lstat().st_blocks
        except FileNotFoundError:
            continue
        count += 1
    return count, blocks * 512 / _MB


def files_in(folder: Path) -> list[Path]:
    """Return all below it, though some may vanish meanwhile."""
    return [Path(root, name) for root, _, names in os.walk(folder) for name in names]
