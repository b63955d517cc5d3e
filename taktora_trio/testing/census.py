"""Counts tasks, threads and descriptors, to show that a connection that was cancelled anywhere has left none."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import trio

__all__ = ["cancelled_after", "census", "more"]


def census() -> tuple[int, int, int]:
    """Count tasks, threads and descriptors. A thread that trio keeps for its next use does not count."""
    tasks, waiting = 0, [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        if task is not None:
            tasks += 1
            waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    threads = sum(not thread.name.startswith("Trio") for thread in threading.enumerate())
    return tasks, threads, len(os.listdir("/proc/self/fd"))


def more(before: tuple[int, int, int], after: tuple[int, int, int]) -> list[str]:
    """Return a line for each count that has grown."""
    names = ("tasks", "threads", "descriptors")
    return [f"{now - then} {name}" for name, then, now in zip(names, before, after, strict=True) if now > then]


class _Countdown(trio.abc.Instrument):
    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self._scope, self._left = scope, steps

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


@contextlib.contextmanager
def cancelled_after(scope: trio.CancelScope, steps: int) -> Iterator[None]:
    """Cancel the scope after so many steps of any tasks."""
    instrument = _Countdown(scope, steps)
    trio.lowlevel.add_instrument(instrument)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(instrument)
