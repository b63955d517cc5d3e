"""The format of a segment's file: a preamble, then frames, each with a checksum.

The first frame is a `Head`, the state of all channels when the segment was begun. The others are `RECORDS`, of one
channel, with consecutive numbers; and `CHANGES`, what was settled and put. What is in a frame is there with all of it,
or not at all.

A frame says up to which byte of its file all was known to be on the disk when it was written. So a reader that finds a
frame broken can tell a write that a power cut has interrupted, behind which nothing was ever confirmed, from damage.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from struct import Struct, pack, unpack_from
from typing import NamedTuple

import msgspec

__all__ = [
    "CHANGES",
    "HEAD",
    "OVERHEAD",
    "PREAMBLE",
    "RECORDS",
    "Change",
    "ChannelHead",
    "Entry",
    "Frame",
    "Head",
    "Scan",
    "encode",
    "encode_records",
    "file_name",
    "is_newer",
    "parse_name",
    "read_records",
    "scan",
]

VERSION = 1
HEAD, RECORDS, CHANGES = 1, 2, 3

_START = Struct("<10sH")
_MAGIC = b"taktora\x00\r\n"
PREAMBLE = _START.pack(_MAGIC, VERSION) + pack("<I", zlib.crc32(_START.pack(_MAGIC, VERSION)))

# mark, checksum of all that follows, bytes of the body, kind, channel, count, synced up to, epoch, number, sequence
_HEADER = Struct("<4sIIBxHIIQQQ")
_CHECKED = Struct("<IBxHIIQQQ")
_MARK = b"tkFr"
_SUMMED_FROM = 8
_SYNCED_AT = 20  # where a header says up to where all was on the disk
_FRAME = 2**14  # bytes of records in a frame, about: one that is read for a few of them is checked as a whole
OVERHEAD = 12  # bytes of a record beside its content


class ChannelHead(msgspec.Struct, array_like=True):
    """What a head says of a channel. `live` are bounds of ranges: its records that are kept."""

    id: int
    name: str
    last: int
    epoch: int
    sequence: int
    values: dict[str, int]
    live: list[int]


class Head(msgspec.Struct, array_like=True):
    identity: str
    channels: list[ChannelHead]


class Change(msgspec.Struct, array_like=True):
    """What has changed in a channel. `settled` are bounds of ranges; `values` are all that it has."""

    id: int
    name: str
    last: int
    settled: list[int]
    values: dict[str, int]


class Entry(NamedTuple):
    """A record that is to be written."""

    number: int
    epoch: int
    sequence: int
    timestamp: int
    content: bytes


class Frame(NamedTuple):
    offset: int
    end: int
    kind: int
    channel: int
    records: int
    epoch: int
    number: int
    sequence: int
    body: memoryview

    @property
    def last(self) -> int:
        return self.number + self.records - 1


class Scan(NamedTuple):
    """What was found in a stretch of a file."""

    frames: list[Frame]
    end: int
    """The offset behind the last frame that is to be believed."""
    gaps: list[tuple[int, int]]
    """Where something else stands than what was on the disk once: from, and up to."""
    missing: int
    """The size of the frame that begins at `end` and goes beyond the stretch; 0 if there is none."""


def file_name(segment: int, generation: int, seed: int) -> str:
    return f"{segment:012x}-{generation:02x}-{seed:08x}.log"


def parse_name(name: str) -> tuple[int, int, int] | None:
    """Return the segment, generation and seed that a file's name has; `None` if it is no segment's name."""
    try:
        segment, generation, seed = (int(part, 16) for part in name.removesuffix(".log").split("-"))
    except ValueError:
        return None
    return (segment, generation, seed) if file_name(segment, generation, seed) == name else None


def is_newer(data: bytes) -> bool:
    """Return true if a later version has written this file, by its preamble."""
    if len(data) < len(PREAMBLE):
        return False
    magic, version = _START.unpack_from(data)
    (checksum,) = unpack_from("<I", data, _START.size)
    return bool(magic == _MAGIC and version > VERSION and checksum == zlib.crc32(data[: _START.size]))


def _seal(
    seed: int, body: bytes, kind: int, channel: int, count: int, synced: int, epoch: int, number: int, sequence: int
) -> bytes:
    header = _CHECKED.pack(len(body), kind, channel, count, synced, epoch, number, sequence)
    return _MARK + pack("<I", zlib.crc32(body, zlib.crc32(header, seed))) + header + body


def encode(seed: int, kind: int, content: Head | list[Change] | msgspec.Raw, synced: int) -> bytes:
    """Return a frame of this kind. A file's `seed` is random, so that no other bytes pass for a frame of it."""
    return _seal(seed, msgspec.msgpack.encode(content), kind, 0, 0, synced, 0, 0, 0)


def encode_records(
    seed: int, channel: int, entries: Sequence[Entry], synced: int
) -> Iterator[tuple[Sequence[Entry], bytes]]:
    """Return frames with these records of a channel, which are in the order of their numbers; and which are in each."""
    for run in _runs(entries):
        count = len(run)
        contents = [entry[4] for entry in run]
        lengths = pack(f"<{count}I", *map(len, contents))
        times = pack(f"<{count}Q", *[entry[3] for entry in run])
        number, epoch, sequence, _, _ = run[0]
        body = b"".join((lengths, times, *contents))
        yield run, _seal(seed, body, RECORDS, channel, count, synced, epoch, number, sequence)


def _runs(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Cut where numbers or sequences have a gap, where an epoch ends, and where a frame would get large.

    Those that their caller gives no name of its own all have 0 as epoch and sequence.
    """
    begin, size = 0, 0
    number = epoch = sequence = -1
    for at, entry in enumerate(entries):
        number, sequence = number + 1, sequence + (0 if not epoch and not sequence else 1)
        follows = entry[0] == number and entry[2] == sequence and entry[1] == epoch
        if (not follows or size > _FRAME) and at > begin:
            yield entries[begin:at]
            begin, size = at, 0
        number, epoch, sequence = entry[0], entry[1], entry[2]
        size += len(entry[4]) + OVERHEAD
    if begin < len(entries):
        yield entries[begin:]


def read_records(frame: Frame, numbers: Iterable[int] | None = None) -> Iterator[Entry]:
    """Return a frame's records, or those with these numbers, which it must have.

    Raises `ValueError` if it does not have what it says.
    """
    count, body = frame.records, frame.body
    if count * OVERHEAD > len(body):
        raise ValueError("a frame is too short for its records")
    lengths = unpack_from(f"<{count}I", body)
    times = unpack_from(f"<{count}Q", body, 4 * count)
    ends = list(accumulate(lengths, initial=OVERHEAD * count))
    if ends[-1] != len(body):
        raise ValueError("a frame's records have another size than it has")
    first, step = frame.number, 1 if frame.epoch or frame.sequence else 0
    for i in range(count) if numbers is None else (number - first for number in numbers):
        yield Entry(first + i, frame.epoch, frame.sequence + step * i, times[i], bytes(body[ends[i] : ends[i + 1]]))


def scan(data: bytes, seed: int, start: int, base: int = 0) -> Scan:
    """Return the frames of a segment's bytes from `start` on. `base` is the offset in the file where they begin.

    Behind something broken it goes on only if a later frame says that it was on the disk once.
    """
    frames: list[Frame] = []
    gaps: list[tuple[int, int]] = []
    offset, missing = start, 0
    while offset < len(data):
        frame, needs = _frame_at(data, offset, seed, base)
        if frame is None:
            missing = needs
            found = _frame_behind(data, offset, seed, base)
            if found is None:
                break
            gaps.append((base + offset, base + found.offset))
            frame, missing = found, 0
        frames.append(frame)
        offset = frame.end - base
    return Scan(frames, base + offset, gaps, missing)


def _frame_at(data: bytes, offset: int, seed: int, base: int) -> tuple[Frame | None, int]:
    """Return the frame that begins here; or `None`, and its size if its bytes go beyond those that are given."""
    if len(data) - offset < _HEADER.size:
        return None, _HEADER.size
    mark, checksum, size, kind, channel, count, _synced, epoch, number, sequence = _HEADER.unpack_from(data, offset)
    if mark != _MARK:
        return None, 0
    body, end = offset + _HEADER.size, offset + _HEADER.size + size
    if end > len(data):
        return None, _HEADER.size + size
    if zlib.crc32(memoryview(data)[offset + _SUMMED_FROM : end], seed) != checksum:
        return None, 0
    view = memoryview(data)[body:end]
    return Frame(base + offset, base + end, kind, channel, count, epoch, number, sequence, view), 0


def _frame_behind(data: bytes, offset: int, seed: int, base: int) -> Frame | None:
    """Return the first good frame behind this broken place, if one there says that the place was on the disk once."""
    first: Frame | None = None
    at = offset
    while (at := data.find(_MARK, at + 1)) >= 0:
        frame, _ = _frame_at(data, at, seed, base)
        if frame is not None:
            first = first or frame
            if unpack_from("<I", data, at + _SYNCED_AT)[0] > base + offset:
                return first
            at = frame.end - base - 1
    return None
