"""Locks on roles: one byte for each role of each domain, in a file that all processes of the user share.

They are POSIX record locks (fcntl_locking(2)): a forked child does not get them, the kernel releases them however a
process ends, and it says which process has one. The file is kept, so no process has a lock on a file that was removed;
nothing is written to it, so it takes no memory. Nobody ever waits here.

Closing any descriptor of the file would release all locks of the process, so the one that it has is never closed.
"""

from __future__ import annotations

import fcntl
import os
import struct

from taktora_trio.digest import sha256
from taktora_trio.processes.procfs import process_stat
from taktora_trio.transport.folder import open_folder

__all__ = ["holder_of", "is_stopped", "release", "try_lock"]

_FILE = "locks"
_FLOCK = struct.Struct("hhqqi4x")  # Linux's struct flock on 64-bit machines
_descriptors: dict[tuple[int, int], int] = {}  # by device and inode
# The locks that this process has, with its process id, for a forked child has none. (The kernel would grant one twice.)
_ours: set[tuple[int, int, int]] = set()


def try_lock(domain: str, role: str, *, shared: bool = False) -> bool:
    """Take the lock on a role for this process. Returns false if somebody has it."""
    fd, byte = _descriptor(), _byte(domain, role)
    if (os.getpid(), fd, byte) in _ours:
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_SETLK, _flock(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, byte))
    except (BlockingIOError, PermissionError):  # either, says fcntl(2)
        return False
    _ours.add((os.getpid(), fd, byte))
    return True


def release(domain: str, role: str) -> None:
    """Give a lock back. (A child that was forked meanwhile has none to give back.)"""
    byte = _byte(domain, role)
    for mine in [each for each in _ours if each[0] == os.getpid() and each[2] == byte]:
        fcntl.fcntl(mine[1], fcntl.F_SETLK, _flock(fcntl.F_UNLCK, byte))
        _ours.discard(mine)


def holder_of(domain: str, role: str) -> int | None:
    """Return the id of the process that has the lock (0 if it is in another process-id namespace), or `None`."""
    fd, byte = _descriptor(), _byte(domain, role)
    if (os.getpid(), fd, byte) in _ours:
        return os.getpid()
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, _flock(fcntl.F_WRLCK, byte)))
    return None if kind == fcntl.F_UNLCK else pid


def is_stopped(pid: int) -> bool:
    """True if the process is stopped, by a signal or by a debugger (proc_pid_stat(5))."""
    try:
        return process_stat(pid)[0] in "Tt"
    except OSError:
        return False


def _byte(domain: str, role: str) -> int:
    """Return the place of a lock: 62 bits of a hash, so that no two share one. It may lie beyond the file's end."""
    digest = sha256(f"{domain}/{role}".encode()).digest()
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
