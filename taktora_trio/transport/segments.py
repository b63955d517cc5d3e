"""Segments: our files in /dev/shm itself, which all users share, and the memory that is left there."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from taktora_trio.errors import ConfigError, TransportError

__all__ = [
    "PAGE",
    "SHM",
    "Segment",
    "SharedMemoryFull",
    "all_bytes",
    "entries",
    "examine",
    "free_bytes",
    "in_pages",
    "segments",
]

log = logging.getLogger(__name__)

SHM = Path("/dev/shm")  # noqa: S108 - POSIX shared memory on Linux (shm_overview(7))
PAGE = 4096
_warned: set[str] = set()


class SharedMemoryFull(TransportError):
    """Shared memory is too full to open something. What is open goes on, and another try may find room."""

    def __init__(self, what: str) -> None:
        there = _look()
        if there.f_files and not there.f_favail:
            lack, remedy = "no file more can be made", "allow more (mount -o remount,nr_inodes=)"
        else:
            lack = f"{_free(there)} bytes are free"
            remedy = "enlarge it (docker run --shm-size, mount -o remount,size=)"
        super().__init__(f"no room for {what}: in {SHM} {lack}; remove what fills it, or {remedy}")


def free_bytes() -> int:
    """Return the free bytes of /dev/shm. Raises `ConfigError` if there is no /dev/shm."""
    return _free(_look())


def all_bytes() -> int:
    """Return the bytes of /dev/shm, free or not. Raises `ConfigError` if there is no /dev/shm."""
    there = _look()
    return there.f_blocks * there.f_frsize


def _look() -> os.statvfs_result:
    try:
        return os.statvfs(SHM)
    except OSError as exc:
        raise ConfigError(f"there is no shared memory: {SHM}: {exc.strerror}; mount a tmpfs there, mode 1777") from exc


def _free(there: os.statvfs_result) -> int:
    return there.f_bavail * there.f_frsize


def in_pages(count: int) -> int:
    """Return the bytes of memory that a file of `count` bytes takes: whole pages."""
    return -(-count // PAGE) * PAGE


class Segment(msgspec.Struct, frozen=True):
    """A file of ours in /dev/shm."""

    name: str
    inode: int
    mode: int
    """The permission bits."""
    size: int
    taken: int
    """The bytes of memory that are set aside for it."""

    @property
    def path(self) -> Path:
        return SHM / self.name


def segments(prefix: str) -> list[Segment]:
    """Return our segments whose names begin with this prefix."""
    return examine(entries(prefix))[0]


def entries(prefix: str) -> list[os.DirEntry[str]]:
    """Return all entries of /dev/shm whose names begin with this prefix, unexamined."""
    with os.scandir(SHM) as found:
        return [entry for entry in found if entry.name.startswith(prefix)]


def examine(found: Iterable[os.DirEntry[str]]) -> tuple[list[Segment], list[str]]:
    """Return the segments that are ours, and the names of those that others have made.

    No user makes such a name by chance, and only its owner and root can remove it. So a warning is logged, once.
    """
    ours, others = [], []
    for entry in found:
        try:
            there = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # closed meanwhile
            continue
        if there.st_uid == os.geteuid() and stat.S_ISREG(there.st_mode):
            mode = stat.S_IMODE(there.st_mode)
            ours.append(Segment(entry.name, there.st_ino, mode, there.st_size, 512 * there.st_blocks))
        else:
            others.append(entry.name)
            _warn_once(entry.name, there.st_uid)
    return ours, others


def _warn_once(name: str, uid: int) -> None:
    prefix = name.partition("_")[0]
    if prefix not in _warned:
        _warned.add(prefix)
        others = "somebody else (uid %d) makes files in %s that are named as ours are: %r; they are left alone"
        log.warning(others, uid, SHM, name, extra={"event": "memory-foreign"})
