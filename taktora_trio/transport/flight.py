"""The flight ring: the last seconds of a half, in a file of the domain, which outlives the half however that ends.

A page with a head, then the ring: records one behind the other, the newest over the oldest. The head says from which
byte to which, counted from the first byte that was ever written. Before a record is written over, the head says that it
is gone; after one is written, that it is there. So a half that is killed within leaves whole records alone, and so does
a reader find them that looks while others are written. Each record has a checksum, for the writer may be broken.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from struct import Struct

import msgspec

from taktora_trio.errors import TransportError
from taktora_trio.transport.folder import FLIGHT, FLIGHT_BEFORE
from taktora_trio.transport.mapped import map_file, open_to_read
from taktora_trio.transport.segments import PAGE, in_pages

__all__ = [
    "FLIGHT_BYTES",
    "FLIGHT_VERSION",
    "FlightRecord",
    "FlightRing",
    "keep_left",
    "left_in",
    "map_flight",
    "read_flight",
]

FLIGHT_VERSION = 1
FLIGHT_BYTES = 256 * 1024
"""Bytes of a half's ring: about a thousand log lines."""

_MAGIC = int.from_bytes(b"FLIGHT\0\0", "little")
_MAGIC_AT, _VERSION, _SIZE, _BEGIN, _END = range(5)  # words of the head
_WORDS = 5
_RECORD = Struct("<IIIQQ")  # length, checksum, kind, unix time, boottime
_LIMIT = 2**62
_MOST = 64 * 1024 * 1024


class FlightRecord(msgspec.Struct, frozen=True):
    """What was written at a moment."""

    kind: int
    time_ns: int
    """Unix time, in nanoseconds."""
    boottime_ns: int
    content: bytes


class FlightRing:
    """A half's ring, to be written. Any thread may write."""

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        """Go on behind what a predecessor has left in `memory`; begin anew if that can't be read."""
        self._memory = memory
        self._ring = memoryview(memory)[PAGE:]
        self._head = memoryview(memory)[: 8 * _WORDS].cast("Q")
        self._size = len(self._ring)
        self._lock = threading.Lock()
        self._closed = False
        try:
            list(_records(bytes(memory)))
        except TransportError:
            self._head[:] = memoryview(bytearray(8 * _WORDS)).cast("Q")
            self._head[_VERSION], self._head[_SIZE] = FLIGHT_VERSION, self._size
            self._head[_MAGIC_AT] = _MAGIC
        self._begin, self._end = self._head[_BEGIN], self._head[_END]

    def write(self, kind: int, content: bytes, time_ns: int | None = None) -> bool:
        """Write a record; return false, with nothing done, if it has no room in the ring. Never waits."""
        needed = _RECORD.size + len(content)
        if needed > self._size:
            return False
        boottime = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        head = (kind, time.time_ns() if time_ns is None else time_ns, boottime)
        record = _RECORD.pack(len(content), _sum_of(head, content), *head) + content
        with self._lock:
            if self._closed:
                return False
            while self._end + needed - self._begin > self._size:
                length = int.from_bytes(self._get(self._begin, 4), "little")
                self._begin += _RECORD.size + length
                if self._begin > self._end:  # what is there was written by another one
                    self._begin = self._end
            self._head[_BEGIN] = self._begin
            self._put(self._end, record)
            self._end += needed
            self._head[_END] = self._end
        return True

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._head.release()
                self._ring.release()
                if isinstance(self._memory, mmap.mmap):
                    self._memory.close()

    def _get(self, at: int, count: int) -> bytes:
        at %= self._size
        return bytes(self._ring[at : at + count]) + bytes(self._ring[: max(0, at + count - self._size)])

    def _put(self, at: int, content: bytes) -> None:
        at %= self._size
        first = min(len(content), self._size - at)
        self._ring[at : at + first] = content[:first]
        self._ring[: len(content) - first] = content[first:]


def map_flight(path: Path, size: int = FLIGHT_BYTES) -> FlightRing:
    """Map the ring at this path, which is made if there is none; one that is there goes on.

    Raises `SharedMemoryFull` if /dev/shm has no room for it, and `TooFewDescriptors`.
    """
    return FlightRing(map_file(path, PAGE + in_pages(size), f"the file {path.name}"))


def read_flight(path: Path) -> list[FlightRecord]:
    """Return what a ring holds, the oldest first; nothing if there is no such file.

    What is not whole is left out. Raises `TransportError` for a file that is cut, or of another version.
    """
    try:
        with open_to_read(path) as fd:
            content = os.pread(fd, _MOST, 0)
            begin = int.from_bytes(os.pread(fd, 8, 8 * _BEGIN), "little")  # what is older by now may be written over
    except FileNotFoundError:
        return []
    return [record for at, record in _records(content) if at >= begin]


def left_in(folder: Path) -> dict[str, bytes]:
    """Return the rings that a killed run has left in its folder, by the names that the next run has for them."""
    left = {}
    for path in folder.glob(f"{FLIGHT}*"):
        if not path.name.startswith(FLIGHT_BEFORE):
            with contextlib.suppress(OSError, TransportError):
                if read_flight(path):
                    left[FLIGHT_BEFORE + path.name.removeprefix(FLIGHT)] = path.read_bytes()
    return left


def keep_left(folder: Path, left: Mapping[str, bytes]) -> None:
    """Keep these rings in a new folder, as far as there is room."""
    for name, content in left.items():
        path = folder / name
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, content)
            finally:
                os.close(fd)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()


def _records(content: bytes) -> Iterator[tuple[int, FlightRecord]]:
    """Yield the whole records, each with where it begins."""
    if len(content) <= PAGE:
        raise TransportError(f"a flight ring is cut: it has {len(content)} bytes")
    magic, version, size, begin, end = memoryview(content)[: 8 * _WORDS].cast("Q")
    if magic != _MAGIC:
        raise TransportError("a file is no flight ring")
    if version != FLIGHT_VERSION:
        raise TransportError(f"a flight ring has format {version}, and this version reads format {FLIGHT_VERSION}")
    ring = content[PAGE : PAGE + size]
    if len(ring) != size or size == 0:
        raise TransportError(f"a flight ring is cut: it has {len(content)} bytes")
    if not begin <= end <= min(begin + size, _LIMIT):
        raise TransportError("the head of a flight ring says what can't be")
    at = begin
    while at + _RECORD.size <= end:
        length, checksum, kind, time_ns, boottime_ns = _RECORD.unpack(_part(ring, at, _RECORD.size))
        if at + _RECORD.size + length > end:
            return  # damaged: where the next one begins is not known
        body = _part(ring, at + _RECORD.size, length)
        if _sum_of((kind, time_ns, boottime_ns), body) == checksum:
            yield at, FlightRecord(kind, time_ns, boottime_ns, body)
        at += _RECORD.size + length


def _part(ring: bytes, at: int, count: int) -> bytes:
    at %= len(ring)
    return ring[at : at + count] + ring[: max(0, at + count - len(ring))]


def _sum_of(head: tuple[int, ...], content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(Struct("<IQQ").pack(*head)))
