"""Noticing the end of a process at once, also of one that is not our child."""

from __future__ import annotations

import errno
import os

import trio

__all__ = ["wait_for_exit"]


_NO_PROCESS = (errno.ESRCH, errno.EINVAL, errno.ENOENT)  # the last two: a number that is none's, or a thread's


async def wait_for_exit(pid: int) -> None:
    """Wait until a process has ended (pidfd_open(2)). Returns at once if no process has that id (any number)."""
    try:
        fd = os.pidfd_open(pid)
    except OverflowError:
        return
    except OSError as exc:
        if exc.errno in _NO_PROCESS:
            return
        raise
    try:
        await trio.lowlevel.wait_readable(fd)
    finally:
        os.close(fd)
