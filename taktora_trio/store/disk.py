"""Disk: the few things that the log asks of a file system. All of them block, and raise `OSError`."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

__all__ = ["Disk"]

_BLOCK = 2**16


class Disk:
    """A real file system. Tests bring one that forgets what was not synced."""

    def make_folder(self, path: Path) -> None:
        """Make a folder, for its user alone, with those above it; and so that it is still there after a power cut."""
        if not path.is_dir():
            self.make_folder(path.parent)
            path.mkdir(mode=0o700, exist_ok=True)
            self.sync_folder(path.parent)

    def names(self, folder: Path) -> list[str]:
        return os.listdir(folder)

    def lock(self, path: Path) -> int:
        """Take the lock of this file until its descriptor is closed. Raises `BlockingIOError` if another has it."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, offset)
            view, offset = view[written:], offset + written

    def sync(self, fd: int) -> None:
        os.fdatasync(fd)

    def truncate(self, path: Path, size: int) -> None:
        os.truncate(path, size)

    def close(self, fd: int) -> None:
        os.close(fd)

    def sync_folder(self, path: Path) -> None:
        self._sync_path(path, os.O_DIRECTORY)

    def sync_file(self, path: Path) -> None:
        """Sync what another process has written to a file."""
        self._sync_path(path, os.O_NOFOLLOW)

    def _sync_path(self, path: Path, flags: int) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, path: Path, to: Path) -> None:
        path.rename(to)

    def remove(self, path: Path) -> None:
        path.unlink()

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Return what there is from the offset on, at most so many bytes; fewer only at the file's end."""
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            data = bytearray()
            while len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
                data += more
            return bytes(data)
        finally:
            os.close(fd)

    def read_all(self, path: Path) -> bytes:
        """Return the whole file; zeros stand for blocks that the disk can't read any more."""
        size = self.size(path)
        try:
            return self.read(path, 0, size)
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
        return b"".join(self._block(path, offset, min(_BLOCK, size - offset)) for offset in range(0, size, _BLOCK))

    def _block(self, path: Path, offset: int, size: int) -> bytes:
        try:
            return self.read(path, offset, size).ljust(size, b"\0")
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            return bytes(size)
