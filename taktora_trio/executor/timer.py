"""Timer: waits until a time to some microseconds, where trio's own wait is up to a millisecond late.

epoll_wait(2) takes its timeout in whole milliseconds, and trio rounds up, so that it wakes no task early. A timerfd
counts nanoseconds, and can be waited for as any other descriptor can.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time

import trio

from taktora_trio.executor.timerfd import create_timer, set_timer

__all__ = ["Timer", "open_timer"]

log = logging.getLogger(__name__)

_STEP = 4e-6  # seconds by which a wait corrects the lead
_MOST_LEAD = 0.2e-3
_READINGS = 5


class Timer:
    """For one task: it calls `sleep_until`; or `alarm`, while another one serves. Made by `open_timer`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._ahead = _trio_is_ahead_by()
        self._lead = 0.0
        self._alarm = math.nan

    async def sleep_until(self, due: float) -> None:
        """Wait until this time on trio's clock, or a moment longer.

        From the end of a timer it takes a while until the task runs: the kernel has to wake the process, whose code and
        data have left the caches. So the timer is set early by what the last waits were late, which each of them
        corrects by a step. A task that is early then waits for the rest in checkpoints, for 0.2 ms at most.
        """
        now = trio.current_time
        set_timer(self._fd, due - self._lead - self._ahead)
        await trio.lowlevel.wait_readable(self._fd)
        if now() >= due:
            self._lead = min(_MOST_LEAD, self._lead + _STEP)
            return
        self._lead = max(0.0, self._lead - _STEP)
        while now() < due:
            await trio.lowlevel.checkpoint()

    def alarm(self, due: float) -> None:
        """Have the loop wake at this time, so that trio sees a deadline of then. For those who wait for events, too."""
        if due != self._alarm:
            self._alarm = due
            set_timer(self._fd, due - self._ahead)

    async def serve_alarms(self) -> None:
        """Wake the loop at each alarm, by being woken. Runs until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            with contextlib.suppress(BlockingIOError):  # set again already
                os.read(self._fd, 8)

    def close(self) -> None:
        """Close its descriptor. No task may use it any more, nor be about to."""
        os.close(self._fd)


def _trio_is_ahead_by() -> float:
    """Return the seconds from the monotonic clock to trio's: rather too few than too many, so no timer is early."""
    return max(trio.current_time() - time.monotonic() for _ in range(_READINGS))


def open_timer() -> Timer | None:
    """Return a timer; `None` where trio's own wait has to do.

    It has to on a clock that is not the system's, such as a virtual one, and where there is no timerfd: on another
    system than Linux, in a sandbox that forbids it, or if no descriptor is left. This is logged.
    """
    if not _is_system_clock():
        return None
    try:
        return Timer(create_timer())
    except OSError as exc:
        log.warning(
            "no timerfd (%s): every(...) will be up to a millisecond late", exc, extra={"event": "timer-coarse"}
        )
        return None


def _is_system_clock() -> bool:
    """Return true if trio counts by the clock of a timerfd. Its clock has no public name; a test pins this one down."""
    clock = type(trio.lowlevel.current_clock())
    is_trios_own = (clock.__module__, clock.__qualname__) == ("trio._core._run", "SystemClock")
    return is_trios_own and time.get_clock_info("perf_counter") == time.get_clock_info("monotonic")
