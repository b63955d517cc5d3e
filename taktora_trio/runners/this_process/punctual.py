"""Being on time: what a command sets up for the process whose loop runs an app. A library call never does it."""

from __future__ import annotations

import contextlib
import ctypes
import gc

from taktora_trio.processes.time_slice import SHORT, set_time_slice

__all__ = ["be_punctual"]

_PR_SET_TIMERSLACK = 29
_LEAST = 1  # ns; 0 would stand for the default


def be_punctual() -> None:
    """Have this thread woken on time, and not held up by collections of garbage. Call it when the app is loaded.

    The kernel may end a wait late, by 50 us unless told otherwise, to wake the machine for several at once
    (PR_SET_TIMERSLACK, prctl(2)). Without that there are a few more wake-ups. Threads and processes inherit it.

    It gets a short time slice, too: when it wakes up it takes the core from one with a longer slice, where it would
    else wait for the kernel's next tick, and it gets no more of the core so (`processes/time_slice.py`).

    A full collection takes 6 ms for what the start has left, most of it modules, which live as long as the process. So
    they are left out from now on (gc.freeze).
    """
    with contextlib.suppress(AttributeError):  # no prctl: not Linux
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _LEAST, 0, 0, 0)
    set_time_slice(SHORT)
    gc.freeze()
