"""The time slice of a process: how soon others get a core that it computes on, and how soon it gets one of theirs.

Linux 6.12 and later lets anybody choose it (sched(7), the slice of EEVDF), and change it back, which is true neither of
a nice value nor of SCHED_IDLE: those need a privilege to be lowered again. Who wakes up takes the core at once from one
with a longer slice; with slices of one length it may wait for the next tick of the kernel's clock, 4 ms as a rule. The
share of the cores that each one gets stays the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

__all__ = ["LONG", "SHORT", "set_time_slice", "time_slice"]

LONG = 0.1
"""The longest that the kernel takes, in seconds: for who computes a lot while others are to be on time."""
SHORT = 0.0001
"""The shortest, for who is to be on time."""

_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275), "riscv64": (274, 275)}  # sched_setattr, sched_getattr
_FAIR = (os.SCHED_OTHER, os.SCHED_BATCH)


class _Attributes(ctypes.Structure):
    """struct sched_attr, as far as it is needed here (sched_setattr(2))."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def set_time_slice(seconds: float | None, pid: int = 0) -> None:
    """Give all threads of a process (0 is this one) this time slice; `None` for the usual one.

    Processes and threads that they start inherit it. Where the kernel knows nothing of it, or doesn't allow it, nothing
    changes; neither for a thread whose scheduling was chosen otherwise (SCHED_FIFO and the like).
    """
    with contextlib.suppress(OSError):  # it has ended
        for thread in os.listdir(f"/proc/{pid or 'self'}/task"):
            with contextlib.suppress(OSError):
                attributes = _attributes(int(thread))
                if attributes.policy in _FAIR:
                    attributes.runtime = 0 if seconds is None else round(seconds * 1e9)
                    _call(0, int(thread), ctypes.byref(attributes))


def time_slice(pid: int = 0) -> float:
    """Return the time slice of a thread, in seconds; 0.0 where the kernel has none. Raises `OSError`."""
    runtime: int = _attributes(pid).runtime
    return runtime / 1e9


def _attributes(thread: int) -> _Attributes:
    attributes = _Attributes()
    _call(1, thread, ctypes.byref(attributes), ctypes.sizeof(attributes))
    attributes.size = ctypes.sizeof(attributes)
    return attributes


def _call(which: int, thread: int, *arguments: object) -> None:
    # The C library has these two only since glibc 2.41.
    numbers = _CALLS.get(os.uname().machine)
    if numbers is None or ctypes.sizeof(ctypes.c_void_p) != ctypes.sizeof(ctypes.c_uint64):
        raise OSError("the number of this system call is not known here")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(numbers[which]), ctypes.c_int(thread), *arguments, ctypes.c_uint(0)) != 0:
        raise OSError(ctypes.get_errno(), "sched_setattr")
