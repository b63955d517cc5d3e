"""Writer: what touches the disk, one call at a time, each in a worker thread."""

from __future__ import annotations

import contextlib
import errno
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import msgspec

from taktora_trio.errors import ConfigError, StoreError
from taktora_trio.store.disk import Disk
from taktora_trio.store.format import (
    CHANGES,
    HEAD,
    PREAMBLE,
    RECORDS,
    Change,
    Entry,
    Frame,
    Head,
    encode,
    encode_records,
    read_records,
    scan,
)
from taktora_trio.store.ranges import Ranges
from taktora_trio.store.recover import (
    Recovered,
    belongs,
    newest_head,
    put_aside,
    recover,
    segment_files,
)
from taktora_trio.store.segment import Segment

__all__ = ["Batch", "Writer", "Written", "check_store", "store_error"]

_LOCK = "lock"
_HINTS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the user's part of the disk is full",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "this user may not",
    errno.EEXIST: "a file is where a folder is wanted",
    errno.ENOTDIR: "a file is where a folder is wanted",
}


def store_error(folder: Path, exc: OSError) -> StoreError:
    """Make the error to raise for one of the disk's."""
    reason = _HINTS.get(exc.errno or 0) or exc.strerror or str(exc)
    return StoreError(f"the store {folder} can't be used now: {reason}")


@attrs.frozen
class Batch:
    """What one commit writes."""

    head: Head | None
    """The state of all channels, for a new segment to begin with; `None` to go on with the one there is."""
    changes: list[Change]
    records: Sequence[tuple[int, Sequence[Entry]]]
    """By the channel's id."""
    dead: list[Segment]
    """Segments that nothing is needed of, once the rest of the batch is on the disk."""


@attrs.frozen
class Written:
    segment: Segment
    size: int
    """Of the segment now."""
    frames: list[tuple[Frame, int]]
    """The frames of records, without their bodies, and the first timestamp of each."""
    removed: list[Segment]


class Writer:
    """The only writer of a folder, which it locks. Its calls block, and raise `OSError`.

    A call that hangs may be given up by whoever waits for it: `close` then leaves the rest to the thread that hangs.
    """

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk, self._folder = disk, folder
        self._lock = self._fd = -1
        self._segment: Segment | None = None
        self._newest = 0  # the number of the segment whose head is the newest on the disk
        self._next = 1
        self._is_closed = False
        self._mutex = threading.Lock()

    def close(self) -> None:
        """Close the files, and release the lock: now, or when the call that is running has ended."""
        self._is_closed = True
        if self._mutex.acquire(blocking=False):
            try:
                self._close_segment()
                if self._lock >= 0:
                    lock, self._lock = self._lock, -1
                    self._disk.close(lock)
            finally:
                self._mutex.release()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with self._mutex:
                if self._is_closed:
                    raise OSError(errno.EBADF, "it is closed")
                yield
        finally:
            if self._is_closed:
                self.close()

    def _close_segment(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                self._disk.close(fd)

    def open(self, identity: str) -> Recovered:
        """Lock the folder, which is made where it is missing, and return what is in it.

        Raises `ConfigError` for a store that must not be used, and `StoreError` for one that another process uses.
        """
        with self._alone():
            self._disk.make_folder(self._folder)
            try:
                self._lock = self._disk.lock(self._folder / _LOCK)
            except BlockingIOError:
                raise StoreError(f"the store {self._folder} is used by another process") from None
            found = recover(self._disk, self._folder, identity)
            self._next = found.next_segment
            self._newest = found.segments[-1].number if found.segments else 0
            return found

    def write(self, batch: Batch) -> Written:
        """Write a batch. When it returns, all of it is on the disk.

        If it fails, the segment is not written to any more, since nobody can know then what of it is on the disk: the
        next batch must have a head.
        """
        with self._alone():
            try:
                written = self._write(batch)
            except OSError as exc:
                self._give_up(is_new=batch.head is not None)
                if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                    self._empty(batch.dead)
                raise
            return attrs.evolve(written, removed=self._remove(batch.dead))

    def _give_up(self, *, is_new: bool) -> None:
        segment, self._segment = self._segment, None
        with contextlib.suppress(OSError):
            if is_new and segment is not None:
                path = segment.path(self._folder)
                self._disk.remove(path if path.name in self._disk.names(self._folder) else _hidden(path))
            elif segment is not None and self._fd >= 0:
                self._disk.truncate(segment.path(self._folder), segment.size)
        self._close_segment()

    def _write(self, batch: Batch) -> Written:
        data = bytearray()
        if batch.head is not None:
            self._close_segment()
            self._segment = Segment(self._next, 0, random.SystemRandom().getrandbits(32))
            self._next += 1
            self._fd = self._disk.create(_hidden(self._segment.path(self._folder)))
            data += PREAMBLE
            data += encode(self._segment.seed, HEAD, batch.head, 0)
            self._segment.head_end = len(data)
        segment = self._segment
        assert segment is not None
        synced, frames = segment.size, list[tuple[Frame, int]]()
        if batch.changes:
            data += encode(segment.seed, CHANGES, batch.changes, synced)
        for channel, entries in batch.records:
            for run, frame in encode_records(segment.seed, channel, entries, synced):
                offset = synced + len(data)
                data += frame
                frames.append(_without_body(offset, synced + len(data), channel, run))
        self._disk.write(self._fd, bytes(data), synced)
        self._disk.sync(self._fd)
        if batch.head is not None:
            self._show(segment)
        self._newest = segment.number
        return Written(segment, synced + len(data), frames, [])

    def _show(self, segment: Segment) -> None:
        """Give a complete file its name. What a power cut before it leaves is removed when the log is opened."""
        path = segment.path(self._folder)
        self._disk.rename(_hidden(path), path)
        self._disk.sync_folder(self._folder)

    def _empty(self, dead: Sequence[Segment]) -> None:
        """Give the space of these back before it is on the disk that nothing is needed of them: it is full.

        Their heads are left, for `recover` to know. They are removed after the next commit.
        """
        for segment in dead:
            if segment.number != self._newest and not segment.is_damaged:
                with contextlib.suppress(OSError):
                    self._disk.truncate(segment.path(self._folder), segment.head_end)

    def _remove(self, dead: Sequence[Segment]) -> list[Segment]:
        """Remove these, and return those that are gone."""
        removed = []
        for segment in dead:
            with contextlib.suppress(OSError):  # it is tried again with the next batch
                if segment.is_damaged:
                    put_aside(self._disk, self._folder, segment)
                else:
                    self._disk.remove(segment.path(self._folder))
                removed.append(segment)
        return removed

    def compact(self, segment: Segment, kept: Mapping[int, Ranges]) -> Written:
        """Write a segment again, as its next generation, with only these of its records."""
        with self._alone():
            data = self._disk.read_all(segment.path(self._folder))
            smaller = Segment(segment.number, segment.generation + 1, random.SystemRandom().getrandbits(32))
            smaller.head_end = segment.head_end
            content, frames = bytearray(PREAMBLE), list[tuple[Frame, int]]()
            for frame in scan(data, segment.seed, len(PREAMBLE)).frames:
                if frame.kind != RECORDS:
                    content += encode(smaller.seed, frame.kind, msgspec.Raw(bytes(frame.body)), len(content))
                    continue
                wanted = kept.get(frame.channel, Ranges())
                entries = [entry for entry in read_records(frame) if entry.number in wanted]
                for run, encoded in encode_records(smaller.seed, frame.channel, entries, len(content)):
                    offset = len(content)
                    content += encoded
                    frames.append(_without_body(offset, len(content), frame.channel, run))
            self._replace(segment, smaller, bytes(content))
            return Written(smaller, len(content), frames, [segment])

    def _replace(self, segment: Segment, by: Segment, content: bytes) -> None:
        temporary = _hidden(by.path(self._folder))
        try:
            fd = self._disk.create(temporary)
            try:
                self._disk.write(fd, content, 0)
                self._disk.sync(fd)
            finally:
                self._disk.close(fd)
            self._show(by)
        except OSError:
            with contextlib.suppress(OSError):
                self._disk.remove(temporary)
            raise
        self._disk.remove(segment.path(self._folder))


def _hidden(path: Path) -> Path:
    return path.with_suffix(".tmp")


def _without_body(offset: int, end: int, channel: int, run: Sequence[Entry]) -> tuple[Frame, int]:
    number, epoch, sequence, timestamp, _ = run[0]
    return Frame(offset, end, RECORDS, channel, len(run), epoch, number, sequence, memoryview(b"")), timestamp


def check_store(folder: Path, *, identity: str, disk: Disk | None = None) -> None:
    """Check, before anything is started, that the folder can be used as a store of this identity.

    Blocks on the disk. The folder is made where it is missing. Raises `ConfigError`, in one line, for a folder that
    can't be made or written, a store of another identity or of a newer version, and one that a live process uses.
    """
    disk = disk or Disk()
    try:
        disk.make_folder(folder)
        lock = disk.lock(folder / _LOCK)
        try:
            _, head = newest_head(disk, folder, segment_files(disk, folder))
            belongs(head, folder, identity)
        finally:
            disk.close(lock)
    except BlockingIOError:
        raise ConfigError(f"the store {folder} is used by another process: give each its own folder") from None
    except OSError as exc:
        reason = _HINTS.get(exc.errno or 0) or exc.strerror or str(exc)
        raise ConfigError(f"the store {folder} can't be used: {reason}") from exc
