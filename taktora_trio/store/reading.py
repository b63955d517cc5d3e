"""Reading: records of a channel, out of the files that have them, by their numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from taktora_trio.store.disk import Disk
from taktora_trio.store.format import RECORDS, Entry, Frame, read_records, scan
from taktora_trio.store.ranges import Ranges

__all__ = ["Fetched", "Place", "fetch"]

_STRETCH = 2**15  # bytes that are read at a time
_ENOUGH = 2**20  # bytes of contents, about


class Place(NamedTuple):
    """Where records of the channel are: a file, and from where up to where in it."""

    path: Path
    seed: int
    offset: int
    end: int


class Fetched(NamedTuple):
    entries: list[Entry]
    missing: Ranges
    """Those that are in none of the places, although all of them could be looked at."""


def fetch(disk: Disk, places: Iterable[Place], channel: int, wanted: Ranges) -> Fetched:
    """Return the records with these numbers, or the first of them if they are large. Blocks. Raises `OSError`."""
    found: dict[int, Entry] = {}
    left = Ranges(wanted.bounds)
    has_moved = False
    size = 0
    for place in places:
        if not left or size > _ENOUGH:
            break
        try:
            size += _look(disk, place, channel, left, found)
        except FileNotFoundError:
            has_moved = True
    entries = [found[number] for number in sorted(found)]
    return Fetched(entries, Ranges() if has_moved or size > _ENOUGH else left)


def _look(disk: Disk, place: Place, channel: int, left: Ranges, found: dict[int, Entry]) -> int:
    """Move what is in this place from `left` to `found`; return the bytes of it."""
    offset, size, stretch = place.offset, 0, _STRETCH
    last = left.bounds[-1] - 1
    while offset < place.end and left and size <= _ENOUGH:
        data = disk.read(place.path, offset, min(stretch, place.end - offset))
        if not data:
            break
        scanned = scan(data, place.seed, 0, offset)
        for frame in scanned.frames:
            if frame.kind == RECORDS and frame.channel == channel:
                if frame.number > last:
                    return size
                size += _pick(frame, left, found)
        if scanned.end > offset:
            offset, stretch = scanned.end, max(scanned.missing, _STRETCH)
        elif scanned.missing > len(data) and offset + len(data) < place.end:
            stretch = scanned.missing
        else:
            offset += 1 + max(data[1:].find(b"tkFr"), 0)  # something broken: go on behind it
            stretch = _STRETCH
    return size


def _pick(frame: Frame, left: Ranges, found: dict[int, Entry]) -> int:
    size = 0
    here = left.within(frame.number, frame.last)
    try:
        for entry in read_records(frame, (number for first, last in here for number in range(first, last + 1))):
            found[entry.number] = entry
            size += len(entry.content)
    except ValueError:
        return 0
    left.remove(frame.number, frame.last)
    return size
