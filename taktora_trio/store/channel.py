"""LogChannel: the records of one channel, and what of them is to be written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import attrs
import msgspec
import trio

from taktora_trio.errors import StoreError
from taktora_trio.escaping import escaped
from taktora_trio.opening import NoPublicConstructor
from taktora_trio.store.format import OVERHEAD, Change, Entry, Frame
from taktora_trio.store.ranges import Ranges
from taktora_trio.store.reading import Fetched, Place
from taktora_trio.store.recover import ChannelState
from taktora_trio.store.segment import Part, Segment

__all__ = ["LogChannel", "Record", "StoreFull", "Taken"]

_NAME = 32


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


class _Log(Protocol):
    """What a channel needs of its log, which has all channels' sizes, the disk, and the task that commits."""

    path: Path
    _committed: trio.Event
    _live_size: int
    _pending_size: int

    def _take_room(self, size: int) -> None: ...
    def _urge(self) -> None: ...
    def _remember_soon(self) -> None: ...
    def _look_at(self, segment: Segment) -> None: ...
    def _report(self, damage: str) -> None: ...
    async def _fetch(self, channel: int, wanted: Ranges, places: list[Place]) -> Fetched: ...


class LogChannel(metaclass=NoPublicConstructor, opened_by="open_log(...)"):
    """The records of one channel, in the order of their numbers. `Log.channel` makes it.

    All but `read` and `wait_stored` touch memory alone, and return at once. (What begins with an underscore is for
    `Log`, which is in a module of its own.)
    """

    def __init__(self, log: _Log, state: ChannelState, parts: list[tuple[Segment, Part]]) -> None:
        self.name = state.name
        self.on_stored: Callable[[], None] | None = None
        """Called in the event loop after each commit that has stored records of this channel; it must not raise."""
        self.stored = state.last
        """The number up to which all records are on disk, or were settled before they came there."""
        self._log = log
        self._state = state
        self._parts = parts  # where it has records that are not settled, in order
        self._size = sum(part.live_size for _, part in parts)
        self._pending: list[Entry] = []  # appended, and not on the disk yet
        self._pending_size = 0
        self._given = state.last  # the number up to which records were given to a write, which may have failed
        self._unsaved = Ranges()  # settled, and not noted on the disk yet
        self._changed, self._saved = 0, 0  # counts changes of values, and those of them that are on the disk

    def __repr__(self) -> str:
        return f"LogChannel({self.name!r}, count={self.count}, stored={self.stored}, last={self.last})"

    @property
    def last(self) -> int:
        """The highest number that was ever used, in this run or one before it."""
        return self._state.last

    @property
    def origin(self) -> tuple[int, int]:
        """The (epoch, sequence) of the last record on disk, in this run or one before it; (0, 0) at first. It stays
        when the record is settled."""
        return self._state.origin

    @property
    def values(self) -> Mapping[str, int]:
        """What was put, also in runs before this one."""
        return MappingProxyType(self._state.values)

    def append(
        self, content: bytes, *, epoch: int = 0, sequence: int = 0, timestamp: int = 0, number: int | None = None
    ) -> int:
        """Append a record, and return its number: the next one, or `number`, which must be higher than all before.

        It is on disk when `stored` has reached it. A commit begins at once, or when the one that is running has ended,
        and takes all that was appended until then. Raises `StoreFull`.
        """
        if number is None:
            number = self._state.last + 1
        elif number <= self._state.last:
            raise ValueError(f"the number {number} is not higher than {self._state.last}, which was used last")
        if (epoch | sequence | timestamp | (number << 1)) >> 64:
            raise ValueError("epoch, sequence and timestamp are from 0 to 2**64 - 1, a number is below 2**63")
        size = len(content) + OVERHEAD
        self._log._take_room(size)
        self._pending_size += size
        self._pending.append(Entry(number, epoch, sequence, timestamp, content))
        self._state.last = number
        self._state.live.add(number, number)
        self._log._urge()
        return number

    def settle(self, first: int, last: int | None = None) -> None:
        """Forget the records from `first` to `last`, or the one: they need not be kept any longer.

        In any order, and as often as you like. A record that is not on its way to the disk yet is never written. The
        fact itself reaches the disk with the next commit, or within a second, or when the log is closed: so what was
        settled right before a kill may be there once more.
        """
        last = min(first if last is None else last, self._state.last)
        removed = self._state.live.remove(first, last)
        if not removed:
            return
        if first <= self._given:
            self._unsaved.add(first, min(last, self._given))
        settled = False
        for segment, part in self._parts:
            if part.first > last:
                break
            if part.last >= first:
                self._set_live(part, self._state.live.count_within(part.first, part.last), part.live_size)
                settled = settled or not part.live
                if not part.live:
                    self._log._look_at(segment)
        if settled:
            self._parts = [it for it in self._parts if it[1].live]
        self._log._remember_soon()

    def drop_oldest(self, count: int = 1) -> int:
        """Settle the oldest `count` records, and return how many there were."""
        oldest = self._state.live.lowest(count)
        for first, last in oldest:
            self.settle(first, last)
        return oldest.count

    def put(self, name: str, value: int) -> None:
        """Keep a number, below 2**64, beside the records, under a name of at most 32 ASCII characters; 0 forgets it.

        `await log.commit()` before you act on it.
        """
        if not name.isascii() or not 0 < len(name) <= _NAME or not 0 <= value < 2**64:
            raise ValueError(f"{name!r} can't be {value}: a name has up to {_NAME} ASCII characters, a value 64 bits")
        if self._state.values.get(name, 0) != value:
            self._state.values[name] = value
            if not value:
                del self._state.values[name]
            self._changed += 1
            self._log._urge()

    async def read(self, after: int = 0, limit: int = 64) -> list[Record]:
        """Return the next records in order, at most `limit` and about 1 MiB: on disk, not settled, and above `after`.

        An empty list means that there is none now. Raises `StoreError` if the disk can't be read; try again later.
        """
        await trio.lowlevel.checkpoint()
        live = self._state.live
        while wanted := live.lowest(limit, after).within(0, self.stored):
            fetched = await self._log._fetch(self._state.id, wanted, self._places(wanted))
            for first, last in fetched.missing:
                self._lose(first, last)
            if entries := [entry for entry in fetched.entries if entry.number in live]:
                return [Record(*entry) for entry in entries]
        return []

    def _places(self, wanted: Ranges) -> list[Place]:
        """Where these records are looked for."""
        places = []
        for segment, part in self._parts:
            if here := wanted.within(part.first, part.last):
                offset = part.offset_of(here.bounds[0])
                places.append(Place(segment.path(self._log.path), segment.seed, offset, segment.size))
        return places

    def _lose(self, first: int, last: int) -> None:
        """Records that were on the disk can't be read any more."""
        for segment, part in self._parts:
            if part.first <= last and first <= part.last:
                segment.is_damaged = True
        self.settle(first, last)
        self._log._report(f"{last - first + 1} messages of the channel '{escaped(self.name)}' can't be read any more")

    async def wait_stored(self, number: int | None = None) -> None:
        """Wait until `stored` has reached the number; `None` for all that was appended so far."""
        await trio.lowlevel.checkpoint()
        number = self._state.last if number is None else number
        while self.stored < number:
            await self._log._committed.wait()

    @property
    def count(self) -> int:
        """The number of records that are not settled, on disk or on their way there."""
        return self._state.live.count

    @property
    def size(self) -> int:
        """About the bytes that they take on disk."""
        return self._size + self._pending_size

    @property
    def first(self) -> int:
        """The number of the oldest record that is not settled; `last + 1` if there is none."""
        return self._state.live.bounds[0] if self._state.live else self._state.last + 1

    @property
    def oldest(self) -> int:
        """About the timestamp of the oldest record that is not settled, rather too early than too late; 0 if there is
        none."""
        if self._parts:
            return self._parts[0][1].time_of(self.first)
        return self._pending[0].timestamp if self._pending and self._state.live else 0

    def _set_live(self, part: Part, live: int, before: int) -> None:
        """`before` is the `live_size` that the part had."""
        part.live = live
        self._size += part.live_size - before
        self._log._live_size += part.live_size - before

    def _add(self, segment: Segment, frame: Frame, timestamp: int) -> None:
        """A frame of its records is in the newest segment now."""
        part = segment.parts.get(self._state.id)
        before, was_live = (part.live_size, part.live) if part is not None else (0, 0)
        part = segment.add(frame, timestamp)
        self._set_live(part, was_live + self._state.live.count_within(frame.number, frame.last), before)
        if part.live and not was_live:
            self._parts.append((segment, part))

    def _replace(self, segment: Segment, by: Segment) -> None:
        """A segment was compacted."""
        parts = []
        for it, part in self._parts:
            if it is segment:
                self._set_live(part, 0, part.live_size)
                if (smaller := by.parts.get(self._state.id)) is None:
                    continue
                live = self._state.live.count_within(smaller.first, smaller.last)
                self._set_live(smaller, live, 0)
                if live:
                    parts.append((by, smaller))
            else:
                parts.append((it, part))
        self._parts = parts

    def _kept(self, part: Part) -> Ranges:
        """Which records of a part must still be there after a kill, since nothing on the disk says that they are
        settled."""
        kept = self._state.live.within(part.first, part.last)
        for first, last in self._unsaved.within(part.first, part.last):
            kept.add(first, last)
        return kept

    def _take(self) -> Taken:
        pending, live = self._pending, self._state.live
        if pending and live.count_within(pending[0].number, pending[-1].number) != len(pending):
            entries = [entry for entry in pending if entry.number in live]
        else:
            entries = pending[:]
        if entries:
            self._given = entries[-1].number
        return Taken(
            self,
            entries,
            len(pending),
            self._pending_size,
            self._state.last,
            Ranges(self._unsaved.bounds),
            self._changed,
        )

    def _done(self, taken: Taken) -> None:
        """What was taken is on the disk."""
        del self._pending[: taken.pending]
        self._pending_size -= taken.size
        self._log._pending_size -= taken.size
        for first, last in taken.settled:
            self._unsaved.remove(first, last)
        self._saved = taken.changed
        self.stored = taken.last
        if taken.entries:
            self._state.origin = taken.entries[-1].epoch, taken.entries[-1].sequence


@attrs.frozen
class Taken:
    """What a commit takes of a channel."""

    channel: LogChannel
    entries: list[Entry]
    pending: int
    """The number of records that it had, those settled meanwhile included."""
    size: int
    """The bytes of these."""
    last: int
    settled: Ranges
    changed: int

    @property
    def is_change(self) -> bool:
        channel = self.channel
        highest = self.entries[-1].number if self.entries else channel.stored
        return bool(self.settled) or self.changed != channel._saved or self.last != highest

    def change(self) -> Change:
        state = self.channel._state
        return Change(state.id, state.name, self.last, list(self.settled.bounds), dict(state.values))
