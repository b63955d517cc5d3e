"""Who has which role in which domain: a lock on one byte each, of a file that every process of the user shares.

POSIX record locks (fcntl_locking(2)): a child that is forked does not get them, the kernel releases them however a
process ends, and says who has one. As the file is kept, no lock is ever one of a file that is there no more; as nothing
is written to it, it takes no room. Nobody ever waits here.

Closing any descriptor of the file would release all locks of the process, so the one that it has is never closed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct

from taktora_trio.processes.procfs import process_stat
from taktora_trio.transport.folder import open_folder

__all__ = ["holder_of", "is_stopped", "release", "try_lock"]

_FILE = "locks"
_FLOCK = struct.Struct("hhqqi4x")  # Linux's struct flock on 64-bit machines
_descriptors: dict[tuple[int, int], int] = {}  # by device and inode
# What this process has, with its process id, for a forked child has nothing. The kernel would grant it once more.
_ours: set[tuple[int, int, int]] = set()


def try_lock(domain: str, role: str) -> bool:
    """Take it for this process, if nobody has it."""
    fd, byte = _descriptor(), _byte(domain, role)
    if (os.getpid(), fd, byte) in _ours:
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_SETLK, _flock(fcntl.F_WRLCK, byte))
    except (BlockingIOError, PermissionError):  # either, says fcntl(2)
        return False
    _ours.add((os.getpid(), fd, byte))
    return True


def release(domain: str, role: str) -> None:
    """Give it back. In a child that was forked meanwhile there is nothing to give back."""
    byte = _byte(domain, role)
    for mine in [each for each in _ours if each[0] == os.getpid() and each[2] == byte]:
        fcntl.fcntl(mine[1], fcntl.F_SETLK, _flock(fcntl.F_UNLCK, byte))
        _ours.discard(mine)


def holder_of(domain: str, role: str) -> int | None:
    """The process id that has it, 0 if we can't see that one's process-id namespace; `None` if nobody has it."""
    fd, byte = _descriptor(), _byte(domain, role)
    if (os.getpid(), fd, byte) in _ours:
        return os.getpid()
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, _flock(fcntl.F_WRLCK, byte)))
    return None if kind == fcntl.F_UNLCK else pid


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped, by a signal or by a debugger (proc_pid_stat(5))."""
    try:
        return process_stat(pid)[0] in "Tt"
    except OSError:
        return False


def _byte(domain: str, role: str) -> int:
    """Its place: 62 bits of a hash, so that no two domains share one. A lock may lie beyond the end of a file."""
    digest = hashlib.sha256(f"{domain}/{role}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def _flock(kind: int, byte: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0)


def _descriptor() -> int:
    with open_folder() as folder:
        try:
            there = os.stat(_FILE, dir_fd=folder, follow_symlinks=False)
            known = _descriptors.get((there.st_dev, there.st_ino))
        except FileNotFoundError:
            known = None
        if known is not None:
            return known
        fd = os.open(_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    there = os.fstat(fd)
    return _descriptors.setdefault((there.st_dev, there.st_ino), fd)
