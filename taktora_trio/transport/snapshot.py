"""Snapshots: what a process says of itself, again and again, in a file of the domain, for anybody who looks.

The file has two places, which are written in turn, each with a checksum: a process that is killed while it writes
leaves the snapshot before. Who reads asks nobody, so it also learns what a process that hangs has said last.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
import zlib
from pathlib import Path
from struct import Struct

import msgspec

from taktora_trio.errors import TransportError
from taktora_trio.transport.descriptors import refusal
from taktora_trio.transport.mapped import open_to_read
from taktora_trio.transport.segments import in_pages

__all__ = [
    "SNAPSHOT_VERSION",
    "Snapshot",
    "SnapshotWriter",
    "map_snapshot",
    "newest_snapshot",
    "page_bytes",
    "read_snapshot",
    "snapshot_bytes",
]

SNAPSHOT_VERSION = 1
"""It grows with each change of what is in the file."""

_MAGIC = b"SNAPSHOT"
_HEAD = Struct("<8sII48x")  # magic, version, bytes of a place
_PLACE = Struct("<QQQIIQ24x")  # number, two times, length, checksum of what follows, checksum of this
_BASE = 16 * 1024  # bytes for a half itself, and its history
_CONNECTOR, _CHANNEL = 1024, 320
_MOST = 64 * 1024 * 1024  # bytes of a file that is read


class Snapshot(msgspec.Struct, frozen=True):
    """What a process has said last, and when."""

    content: bytes
    boottime_ns: int
    """By `CLOCK_BOOTTIME`, which messages age by."""
    monotonic_ns: int
    """By `CLOCK_MONOTONIC`, which stands still while the machine is suspended, as the process does."""


class SnapshotWriter:
    """Writes snapshots into memory that nobody else writes to."""

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        """Begin in `memory`, of `snapshot_bytes(n)` zeros."""
        self._memory = memory
        self.most = (len(memory) - _HEAD.size) // 2 - _PLACE.size
        """The bytes that a snapshot may have."""
        self._number = 0
        _HEAD.pack_into(memory, 0, _MAGIC, SNAPSHOT_VERSION, self.most)

    def write(self, content: bytes, boottime_ns: int | None = None, monotonic_ns: int | None = None) -> bool:
        """Write the next one; return false, with nothing done, if there is no room for so much. Never waits."""
        if len(content) > self.most:
            return False
        number = self._number = self._number + 1
        at = _HEAD.size + number % 2 * (_PLACE.size + self.most)
        boottime = time.clock_gettime_ns(time.CLOCK_BOOTTIME) if boottime_ns is None else boottime_ns
        monotonic = time.monotonic_ns() if monotonic_ns is None else monotonic_ns
        head = (number, boottime, monotonic, len(content))
        _PLACE.pack_into(self._memory, at, *head, 0, 0)  # void, until all of it is there
        begin = at + _PLACE.size
        self._memory[begin : begin + len(content)] = content
        _PLACE.pack_into(self._memory, at, *head, zlib.crc32(content), _sum_of(head))
        return True

    def close(self) -> None:
        if isinstance(self._memory, mmap.mmap):
            self._memory.close()


def page_bytes(connectors: int, channels: int) -> int:
    """Return the bytes that a snapshot of one half may have, with figures of so many connectors and channels."""
    return _BASE + _CONNECTOR * connectors + _CHANNEL * channels


def snapshot_bytes(most: int) -> int:
    """Return the bytes of a file for snapshots of up to `most` bytes."""
    return in_pages(_HEAD.size + 2 * (_PLACE.size + most))


def map_snapshot(path: Path, most: int) -> SnapshotWriter:
    """Make the file at this path, in place of one that is there: who has that open still reads what it said last.

    Raises `SharedMemoryFull` if /dev/shm has no room for it, and `TooFewDescriptors`.
    """
    size = snapshot_bytes(most)
    unfinished = path.with_name(f"{path.name}~{os.urandom(8).hex()}")
    try:
        fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
            writer = SnapshotWriter(mmap.mmap(fd, size))
            unfinished.replace(path)
            return writer
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        finally:
            os.close(fd)
    except OSError as exc:
        raise refusal(f"the file {path.name}", exc, f"cannot make {path}: {exc.strerror}") from exc


def read_snapshot(path: Path) -> Snapshot | None:
    """Return the last whole snapshot in the file; `None` if there is no such file, or nothing was written yet.

    Raises `TransportError` for a file that is cut, torn, or of another version, and says which.
    """
    try:
        with open_to_read(path) as fd:
            size = os.fstat(fd).st_size
            content = os.pread(fd, min(size, _MOST), 0)
            if _is_torn(content):  # the writer may be at it just now, and the other place was older than we took it for
                content = os.pread(fd, min(size, _MOST), 0)
    except FileNotFoundError:
        return None
    return newest_snapshot(path.name, content)


def newest_snapshot(name: str, content: bytes) -> Snapshot | None:
    """Return the last whole snapshot in the content of a file of this name: see `read_snapshot`."""
    if len(content) < _HEAD.size:
        raise TransportError(f"the page {name} is cut: it has {len(content)} bytes")
    magic, version, most = _HEAD.unpack_from(content)
    if magic != _MAGIC:
        raise TransportError(f"the page {name} is none of ours")
    if version != SNAPSHOT_VERSION:
        raise TransportError(
            f"the page {name} has format {version}, and this version of taktora-trio reads format {SNAPSHOT_VERSION}:"
            " look with the version that runs there"
        )
    if len(content) < _HEAD.size + 2 * (_PLACE.size + most):
        raise TransportError(f"the page {name} is cut: it has {len(content)} bytes")
    places = [_PLACE.unpack_from(content, _HEAD.size + index * (_PLACE.size + most)) for index in (0, 1)]
    for index, place in sorted(enumerate(places), key=lambda one: one[1][0], reverse=True):
        number, boottime, monotonic, length, checksum, head_checksum = place
        begin = _HEAD.size + index * (_PLACE.size + most) + _PLACE.size
        body = content[begin : begin + length]
        if number and length <= most and head_checksum == _sum_of(place[:4]) and zlib.crc32(body) == checksum:
            return Snapshot(body, boottime, monotonic)
    if not any(place[0] for place in places):
        return None
    raise TransportError(f"the page {name} is torn: none of its two places is whole")


def _is_torn(content: bytes) -> bool:
    try:
        newest_snapshot("", content)
    except TransportError:
        return True
    return False


def _sum_of(head: tuple[int, ...]) -> int:
    return zlib.crc32(Struct("<QQQI").pack(*head)) | 1 << 32  # never 0, as in a place that is void
