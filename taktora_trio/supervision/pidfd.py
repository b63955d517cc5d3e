"""Noticing the end of a process at once, whoever's child it is."""

from __future__ import annotations

import os

import trio

__all__ = ["wait_for_exit"]


async def wait_for_exit(pid: int) -> None:
    """Wait until the process has ended; at once if it doesn't exist (pidfd_open(2))."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await trio.lowlevel.wait_readable(fd)
    finally:
        os.close(fd)
