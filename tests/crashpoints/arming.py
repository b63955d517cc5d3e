"""In the victim: each life takes the next order of a plan, to count the lines that run or to end before one of them."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from tests.crashpoints.case import Orders

__all__ = ["CALM", "COUNT", "Crash", "arm"]

CALM, COUNT = "calm", "count"
"""Orders: to do nothing, and to count; others are points."""
_FINAL = 15.0  # seconds within which the rest of the plan is there


class Crash(Exception):
    """The fault that a gateway's task raises."""


def arm(orders: Orders) -> None:
    """Take the next order, if there is one."""
    folder = Path(orders.folder)
    with (folder / "index").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        index = int(file.read() or 0)
        file.truncate(0)
        file.write(str(index + 1))
    until = time.monotonic() + _FINAL
    while True:
        final = (folder / "final").exists()
        plan = (folder / "plan").read_text().split()
        if index < len(plan) or final or time.monotonic() > until:
            break
        time.sleep(0.01)
    if index >= len(plan) or plan[index] == CALM:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return
    limit = float((folder / "limit").read_text())
    if plan[index] == COUNT:
        _count(orders, folder / f"counted-{index}", limit)
    else:
        _end_at(orders, index, plan[index], limit)


def _count(orders: Orders, to: Path, limit: float) -> None:
    counts = Counter[tuple[str, int]]()

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            counts[frame.f_code.co_filename, frame.f_lineno] += 1
        return local

    def called(frame: FrameType, event: str, argument: Any) -> Any:
        # functions alone, and not the bodies of modules and classes (inspect.CO_NEWLOCALS)
        concerned = frame.f_code.co_flags & 2 and frame.f_code.co_filename.endswith(orders.files)
        return local if concerned else None

    def write(signum: int, frame: FrameType | None) -> None:
        _trace(None)
        begun = to.with_suffix(".begun")
        begun.write_text("".join(f"{name}:{line}:{count}\n" for (name, line), count in sorted(counts.items())))
        begun.rename(to)
        if orders.case.victim != "task":
            os.kill(os.getpid(), signal.SIGKILL)

    signal.signal(signal.SIGALRM, write)
    signal.setitimer(signal.ITIMER_REAL, limit)
    _trace(called)


def _end_at(orders: Orders, index: int, point: str, limit: float) -> None:
    name, line, hit = point.rsplit(":", 2)
    number, left = int(line), int(hit)
    folder, is_task = orders.folder, orders.case.victim == "task"

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if event == "line" and frame.f_lineno == number:
            left -= 1
            if left == 0:
                fd = os.open(f"{folder}/reached", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                os.write(fd, f"{time.monotonic():.6f} {index} {point}\n".encode())
                os.close(fd)
                if is_task:
                    raise Crash(point)  # tracing ends by that
                os.kill(os.getpid(), signal.SIGKILL)
        return local

    def called(frame: FrameType, event: str, argument: Any) -> Any:
        return local if frame.f_code.co_filename == name else None

    if is_task:
        signal.signal(signal.SIGALRM, lambda *_: _trace(None))
    else:
        # Not by SIG_DFL: where that is, a half's life signs take the timer, and one that misses its point lives on.
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, limit)
    _trace(called)


def _trace(function: Any) -> None:
    sys.settrace(function)
    threading.settrace(function)
