"""Waiting for an owner that is not there yet, without polling: each process that waits has a named pipe of its own."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

import trio

__all__ = ["has_doorbell", "ring", "wait_at_doorbell"]


async def wait_at_doorbell(folder: int, label: str, is_there: Callable[[], bool]) -> None:
    """Wait until `is_there()` returns true. It is called at first, and each time that somebody rings."""
    name = f"{label}~waiting.{os.urandom(8).hex()}"
    fd = _hang_up(folder, name)
    try:
        while not is_there():
            await trio.lowlevel.wait_readable(fd)
            os.read(fd, 64)
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def ring(folder: int, label: str) -> None:
    """Wake all that wait, and remove the pipes of those that were killed: nobody reads from them."""
    for name in os.listdir(folder):
        if name.startswith((f"{label}~waiting.", f"{label}~hanging.")):
            try:
                fd = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            except OSError as exc:
                if exc.errno == errno.ENXIO:  # fifo(7)
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
                continue
            with contextlib.suppress(BlockingIOError):  # it is full of rings already
                os.write(fd, b"!")
            os.close(fd)


def has_doorbell(folder: int, label: str) -> bool:
    """True if somebody waits. It wakes nobody."""
    for name in os.listdir(folder):
        if name.startswith(f"{label}~waiting."):
            with contextlib.suppress(OSError):  # nobody reads from it: its process was killed (ENXIO, fifo(7))
                os.close(os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder))
                return True
    return False


def _hang_up(folder: int, name: str) -> int:
    """Make the pipe. It gets its name once it is open, for a pipe of that name that nobody reads is left over."""
    while True:
        begun = name.replace("~waiting.", "~hanging.")
        os.mkfifo(begun, 0o600, dir_fd=folder)
        with contextlib.suppress(FileNotFoundError):  # taken for one that is left over
            # Opened for both directions, so that it never reports an end of file.
            fd = os.open(begun, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.rename(begun, name, src_dir_fd=folder, dst_dir_fd=folder)
            except FileNotFoundError:
                os.close(fd)
                raise
            return fd
