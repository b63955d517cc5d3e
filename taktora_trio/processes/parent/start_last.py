"""Starting a process behind all others: it gets a core only where nobody else wants one, until it is ready.

A long time slice does half of that (`processes/time_slice.py`), and anybody may choose it. But one that wakes up soon
after it has computed has had its share for the moment. It waits until the one that starts has had as much, and then for
the next tick of the kernel's clock: 2 ms and more. One of SCHED_IDLE (sched(7)) gives way at once. To leave that again
takes a privilege, so it is chosen only where we have one.

On a machine with no core to spare, a process of SCHED_IDLE would never be ready. So it has a second of it at most.
"""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

import trio

from taktora_trio.processes.time_slice import LONG, set_time_slice

__all__ = ["StartsLast", "may_leave_idle"]

_AT_MOST = 1.0  # seconds; a start takes 0.2 on a machine that is not busy
_PASSES = 10  # a thread may be started, with what its starter has, while those that are there are changed
_EVERY_NICE_VALUE = 20  # of RLIMIT_NICE: down to nice 0 (getrlimit(2))
_CAP_SYS_NICE = 1 << 23
_EVERYBODY = ["0", "0", "4294967295"]  # the user namespace of the whole machine (user_namespaces(7))


class StartsLast:
    """Has a process, one of ours that has just been started, run behind all others until `end`, or for a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._is_idle = may_leave_idle()
        set_time_slice(LONG, pid)
        if self._is_idle:
            _change(pid, os.SCHED_OTHER, os.SCHED_IDLE)

    async def serve(self) -> None:
        """End the idle time when it has lasted too long. Cancel it before the process is waited for."""
        if self._is_idle:
            await trio.sleep(_AT_MOST)
            self._leave_idle()

    def end(self) -> None:
        """Have it run like any other process from now on."""
        self._leave_idle()
        set_time_slice(None, self._pid)

    def _leave_idle(self) -> None:
        if self._is_idle:
            self._is_idle = False
            _change(self._pid, os.SCHED_IDLE, os.SCHED_OTHER)


def may_leave_idle() -> bool:
    """Return whether this process may take SCHED_IDLE back from another of its user's: by RLIMIT_NICE, or as root."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NICE)
    if limit == resource.RLIM_INFINITY or limit >= _EVERY_NICE_VALUE:
        return True
    try:
        status = Path("/proc/self/status").read_text()
        is_of_everybody = Path("/proc/self/uid_map").read_text().split() == _EVERYBODY
    except OSError:
        return False
    capabilities = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    return is_of_everybody and any(int(one, 16) & _CAP_SYS_NICE for one in capabilities)


def _change(pid: int, before: int, after: int) -> None:
    """Change the policy of all threads that have the one `before`. Another one is somebody else's choice."""
    for _ in range(_PASSES):
        has_changed = False
        with contextlib.suppress(OSError):  # it has ended
            for thread in map(int, os.listdir(f"/proc/{pid}/task")):
                with contextlib.suppress(OSError):
                    if os.sched_getscheduler(thread) == before:
                        os.sched_setscheduler(thread, after, os.sched_param(0))
                        has_changed = True
        if not has_changed:
            return
