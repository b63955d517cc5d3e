"""What outlives a run of a domain: a folder in the user's folder that a new generation of files does not replace.

A file in it is locked (shared) by each process that has it open. So it can be removed at any time, by whoever finds
nobody else at it, and no two processes take two files for one.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Callable

from taktora_trio.transport.descriptors import refusal
from taktora_trio.transport.folder import open_folder

__all__ = ["forget_kept", "map_kept", "open_kept", "prune_kept"]

_KEPT = "~kept"  # no generation's name ends so
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def open_kept(label: str, name: str, size: int) -> int:
    """Open a file of the domain with this label, or make it, with all its memory; return its descriptor, locked.

    Raises `OSError`, and `ConfigError` where the user's folder can't be used.
    """
    with open_folder() as folder:
        while True:
            try:
                fd = os.open(f"{label}{_KEPT}/{name}", _FILE | os.O_CREAT, 0o600, dir_fd=folder)
            except FileNotFoundError:  # it is the first one, or the folder was removed meanwhile
                with contextlib.suppress(FileExistsError):
                    os.mkdir(label + _KEPT, 0o700, dir_fd=folder)
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_SH)
                there = os.fstat(fd)
                if there.st_nlink:
                    if there.st_size > size:
                        os.ftruncate(fd, size)  # not ours: the name has all that decides the size
                    os.posix_fallocate(fd, 0, size)
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # it was removed while we waited for the lock


def map_kept(label: str, name: str, size: int) -> mmap.mmap:
    """Map a file of the domain with this label: see `open_kept`.

    Raises `SharedMemoryFull` if /dev/shm has no room for it, `TooFewDescriptors` and `ConfigError`.
    """
    try:
        fd = open_kept(label, name, size)
        try:
            return mmap.mmap(fd, size)  # it has a duplicate, and so the lock
        finally:
            os.close(fd)
    except OSError as exc:
        raise refusal(f"the kept file {name}", exc, f"cannot open the kept file {name}: {exc.strerror}") from exc


def prune_kept(label: str, is_needed: Callable[[int], bool]) -> None:
    """Remove the files that nobody has open and that are not needed any more, as `is_needed(fd)` tells."""
    with open_folder() as folder:
        try:
            kept = os.open(label + _KEPT, _DIRECTORY, dir_fd=folder)
        except FileNotFoundError:
            return
        try:
            for name in os.listdir(kept):
                _remove_unless(name, kept, is_needed)
        finally:
            os.close(kept)
        with contextlib.suppress(OSError):  # something is left in it
            os.rmdir(label + _KEPT, dir_fd=folder)


def forget_kept(label: str) -> None:
    """Remove all files of a domain that nobody has open."""
    prune_kept(label, lambda fd: False)


def _remove_unless(name: str, kept: int, is_needed: Callable[[int], bool]) -> None:
    with contextlib.suppress(OSError):  # gone meanwhile, or no file of ours
        fd = os.open(name, _FILE, dir_fd=kept)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: somebody has it open
            if not is_needed(fd):
                os.unlink(name, dir_fd=kept)
        finally:
            os.close(fd)
