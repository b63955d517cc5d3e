"""Log: records on disk, for the gateway's event loop, which never waits for the disk."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec

from taktora_trio.errors import StoreError
from taktora_trio.opening import NoPublicConstructor

__all__ = ["Log", "LogChannel", "Record", "StoreFull", "check_store", "open_log"]


class StoreFull(StoreError):
    """The record would take the store beyond its `max_bytes`. Nothing was appended."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record of a channel, as it was appended."""

    number: int
    """Its number in the log, from 1 up, in the order of appending. A channel's numbers never repeat, over any number
    of runs; they have gaps only where the caller left them out."""
    epoch: int
    """With `sequence`, the caller's own name for it, from 0 to 2**64 - 1 each."""
    sequence: int
    timestamp: int
    """Nanoseconds since the unix epoch."""
    content: bytes


class LogChannel(metaclass=NoPublicConstructor, opened_by="open_log(...)"):
    """The records of one channel, in the order of their numbers. `Log.channel` makes it.

    All but `read` and `wait_stored` touch memory alone, and return at once.
    """

    name: str
    on_stored: Callable[[], None] | None
    """Called in the event loop after each commit that has stored records of this channel; it must not raise."""
    stored: int
    """The number up to which all records are on disk, or settled before they came there."""
    last: int
    """The highest number that was ever used, in this run or one before it."""
    origin: tuple[int, int]
    """The (epoch, sequence) of the record that was appended last, in this run or one before it and on disk; (0, 0) at
    first. It stays when the record is settled."""
    values: Mapping[str, int]
    """What was put, also in runs before this one."""

    def append(
        self, content: bytes, *, epoch: int = 0, sequence: int = 0, timestamp: int = 0, number: int | None = None
    ) -> int:
        """Append a record, and return its number: the next one, or `number`, which must be higher than all before.

        It is on disk when `stored` has reached it. A commit begins at once, or when the one that is running has ended,
        and takes all that was appended until then. Raises `StoreFull`.
        """
        raise NotImplementedError

    def settle(self, first: int, last: int | None = None) -> None:
        """Forget the records from `first` to `last`, or the one: they need not be kept any longer.

        In any order, and as often as you like. A record that is not on its way to the disk yet is never written. The
        fact itself reaches the disk with the next commit, or within a second, or when the log is closed: so what was
        settled right before a kill may be there once more.
        """
        raise NotImplementedError

    def drop_oldest(self, count: int = 1) -> int:
        """Settle the oldest `count` records, and return how many there were."""
        raise NotImplementedError

    def put(self, name: str, value: int) -> None:
        """Keep a small number beside the records, under a name of at most 32 ASCII characters; 0 forgets it.

        `await log.commit()` before you act on it.
        """
        raise NotImplementedError

    async def read(self, after: int = 0, limit: int = 64) -> list[Record]:
        """Return the next records in order, at most `limit` and about 1 MiB: on disk, not settled, and above `after`.

        An empty list means that there is none now. Raises `StoreError` if the disk can't be read; try again later.
        """
        raise NotImplementedError

    async def wait_stored(self, number: int | None = None) -> None:
        """Wait until `stored` has reached the number; `None` for all that was appended so far."""
        raise NotImplementedError

    @property
    def count(self) -> int:
        """The number of records that are not settled, on disk or on their way there."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """About the bytes that they take on disk."""
        raise NotImplementedError

    @property
    def first(self) -> int:
        """The number of the oldest record that is not settled; `last + 1` if there is none."""
        raise NotImplementedError

    @property
    def oldest(self) -> int:
        """About the timestamp of the oldest record that is not settled, rather too early than too late; 0 if there is
        none."""
        raise NotImplementedError


class Log(metaclass=NoPublicConstructor, opened_by="open_log(...)"):
    """A log of records on disk, by channel, of which this process is the only user. Use `open_log`.

    The disk is touched in worker threads alone. If it fails, or is full, `trouble` says why, what was appended waits in
    memory, and it is tried again until it succeeds: nothing that `stored` has told of is lost by that. If it does not
    answer, only commits and reads wait.
    """

    path: Path
    trouble: str
    """Why the last commit failed, in one line; empty if it succeeded."""
    damage: str
    """What could not be read of the store, and where it was put aside, in one line; empty if all could be read. It is
    logged as an error, too."""
    on_trouble: Callable[[str], None] | None
    """Called in the event loop whenever `trouble` changes."""
    max_bytes: int

    def channel(self, name: str) -> LogChannel:
        """Return the channel of this name, always the same one; it is new if nothing was ever stored in it."""
        raise NotImplementedError

    @property
    def channels(self) -> Mapping[str, LogChannel]:
        """All channels that it has anything of, also those that nobody has asked for: of an earlier version."""
        raise NotImplementedError

    async def commit(self) -> None:
        """Wait until all that was appended, settled and put so far is on disk. A cancelled wait loses nothing."""
        raise NotImplementedError

    @property
    def used(self) -> int:
        """The bytes that it takes on disk, and those that are on their way there."""
        raise NotImplementedError

    def has_room(self, size: int) -> bool:
        """Return true if a record with a content of this size can be appended."""
        raise NotImplementedError


@contextlib.asynccontextmanager
async def open_log(
    folder: Path, *, identity: str, max_bytes: int, sync_every: float = 0.0, close_timeout: float = 1.0
) -> AsyncIterator[Log]:
    """Open the log in the folder, which is made where it is missing, and lock it.

    `identity` says whose it is: deployment and connector. `sync_every` is the least time between the begins of two
    commits. At the end, also if it is cancelled, what was appended and settled is written: in at most `close_timeout`.

    What can't be read is put aside, said in `Log.damage`, and never deleted; the rest is used. Raises `ConfigError` for
    a store of another identity or of a newer version, and `StoreError` if the disk can't be used now, or if another
    process uses the store: try again later.
    """
    raise NotImplementedError
    yield


def check_store(folder: Path, *, identity: str) -> None:
    """Check, before anything is started, that the folder can be used as a store of this identity.

    Blocks on the disk. The folder is made where it is missing. Raises `ConfigError`, in one line, for a folder that
    can't be made or written, a store of another identity or of a newer version, and one that a live process uses.
    """
    raise NotImplementedError
