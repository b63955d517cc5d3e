"""Segment: one file of the log, and which records of each channel are where in it."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from pathlib import Path

from taktora_trio.store.format import Frame, file_name

__all__ = ["Part", "Segment"]

_BETWEEN = 2**15  # bytes between two entries of an index, at least
_NUMBER, _OFFSET, _TIME = range(3)


class Part:
    """A channel's records in a segment. Its memory does not grow with their number, but with the bytes."""

    __slots__ = ("_index", "count", "first", "last", "live", "size")

    def __init__(self, first: int) -> None:
        self.first = first
        self.last = first - 1
        self.count = 0
        """The number of records that are there, settled or not."""
        self.size = 0
        """The bytes that they take."""
        self.live = 0
        """The number of records that are not settled."""
        self._index = array("Q")  # for some frames, in order: first number, offset, first timestamp

    def add(self, frame: Frame, timestamp: int) -> None:
        if not self._index or frame.offset - self._index[_OFFSET - 3] >= _BETWEEN:
            self._index.extend((frame.number, frame.offset, timestamp))
        self.first = min(self.first, frame.number)
        self.last = max(self.last, frame.last)
        self.count += frame.records
        self.size += frame.end - frame.offset

    @property
    def live_size(self) -> int:
        """About the bytes of records that are not settled."""
        return self.size * self.live // self.count if self.count else 0

    def _entry(self, number: int) -> int:
        return max(3 * (bisect_right(self._index[_NUMBER::3], number) - 1), 0)

    def offset_of(self, number: int) -> int:
        """Return an offset at or before the frame that has this number."""
        return self._index[self._entry(number) + _OFFSET]

    def time_of(self, number: int) -> int:
        """Return the timestamp of a record at or before this one."""
        return self._index[self._entry(number) + _TIME]


class Segment:
    """One file. Only the newest is written to, and only by the process that has made it."""

    def __init__(self, number: int, generation: int, seed: int) -> None:
        self.number, self.generation, self.seed = number, generation, seed
        self.size = 0
        """The bytes of it that are on the disk for sure."""
        self.head_end = 0
        """Where its head ends."""
        self.parts: dict[int, Part] = {}
        self.is_damaged = False
        """True if something in it can't be read: then the file is put aside and not removed in the end."""

    def __repr__(self) -> str:
        return f"Segment({self.name}, size={self.size})"

    @property
    def name(self) -> str:
        return file_name(self.number, self.generation, self.seed)

    def path(self, folder: Path) -> Path:
        return folder / self.name

    @property
    def live(self) -> int:
        return sum(part.live for part in self.parts.values())

    @property
    def live_size(self) -> int:
        return sum(part.live_size for part in self.parts.values())

    @property
    def settled_size(self) -> int:
        """About the bytes that it would be smaller by if it were written again."""
        return sum(part.size - part.live_size for part in self.parts.values())

    def add(self, frame: Frame, timestamp: int) -> Part:
        """Note where the records of a frame are. The `live` of their channel's part is to be set then."""
        part = self.parts.get(frame.channel)
        if part is None:
            part = self.parts[frame.channel] = Part(frame.number)
        part.add(frame, timestamp)
        return part
