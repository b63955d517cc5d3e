"""timerfd_create(2): a timer of the kernel's that is a descriptor. Before Python 3.13 only the C library has it."""

from __future__ import annotations

import ctypes
import os
import sys
import time

__all__ = ["create_timer", "set_timer"]

_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_BILLION = 1_000_000_000

if sys.version_info >= (3, 13):

    def create_timer() -> int:
        """Return the descriptor of a timer on the monotonic clock. Raises `OSError`."""
        if not hasattr(os, "timerfd_create"):
            raise _missing()
        return os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)

    def set_timer(fd: int, at: float) -> None:
        """Make it readable at this time of the monotonic clock, once, and not before. A time that is over is now."""
        os.timerfd_settime_ns(fd, flags=os.TFD_TIMER_ABSTIME, initial=max(1, int(at * _BILLION)))

else:

    class _Times(ctypes.Structure):
        """struct itimerspec."""

        _fields_ = (
            ("again_s", ctypes.c_long),
            ("again_ns", ctypes.c_long),
            ("first_s", ctypes.c_long),
            ("first_ns", ctypes.c_long),
        )

    _libc = ctypes.CDLL(None, use_errno=True)

    def create_timer() -> int:
        """Return the descriptor of a timer on the monotonic clock. Raises `OSError`."""
        if not hasattr(_libc, "timerfd_create"):
            raise _missing()
        fd: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        return fd

    def set_timer(fd: int, at: float) -> None:
        """Make it readable at this time of the monotonic clock, once, and not before. A time that is over is now."""
        seconds, ns = divmod(max(1, int(at * _BILLION)), _BILLION)  # all zeros would stop it
        if _libc.timerfd_settime(fd, _ABSOLUTE, ctypes.byref(_Times(0, 0, seconds, ns)), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")


def _missing() -> OSError:
    return OSError("this system has none")
