"""A virtual clock that jumps stands still while a thread works: what the thread does takes no virtual time.

trio's `MockClock` jumps when every task waits, also for a thread. Time limits would then be over before it is done.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator

import trio

__all__ = ["open_standstill"]

_CUSHION = 0.001  # seconds of real time between two looks


class _Keeper(trio.abc.Instrument):
    """Wakes the task that keeps the clock from jumping, when every task waits and some of them for a thread."""

    def __init__(self) -> None:
        self._parked: trio.lowlevel.Task | None = None

    def before_io_wait(self, timeout: float) -> None:
        if self._parked is not None and timeout <= 0 and _threads_work():
            parked, self._parked = self._parked, None
            trio.lowlevel.reschedule(parked)

    async def keep(self) -> None:
        while True:
            self._parked = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._leave)
            from trio.testing import wait_all_tasks_blocked  # it brings pytest, where that is installed

            while _threads_work():
                # While a task waits so, the clock does not jump.
                await wait_all_tasks_blocked(_CUSHION)

    def _leave(self, raise_cancel: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED


def _threads_work() -> bool:
    """Return whether a task of this run waits for a thread."""
    root = trio.lowlevel.current_root_task()
    waiting = [] if root is None else [root]
    for task in waiting:
        for nursery in task.child_nurseries:
            waiting += nursery.child_tasks
        if any(frame.f_code.co_name == "to_thread_run_sync" for frame, _ in task.iter_await_frames()):
            return True
    return False


@contextlib.asynccontextmanager
async def open_standstill() -> AsyncIterator[None]:
    """Have the clock of this run stand still in the block while a thread works, if it is one that jumps."""
    testing = sys.modules.get("trio.testing")  # else the clock is none of its clocks
    if testing is None or not isinstance(trio.lowlevel.current_clock(), testing.MockClock):
        yield
        return
    keeper = _Keeper()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.keep)
        trio.lowlevel.add_instrument(keeper)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(keeper)
        nursery.cancel_scope.cancel()
