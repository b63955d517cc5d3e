"""Recover: from the files of a log to what is in it. What can't be read is left where it is, and said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import attrs
import msgspec

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.store.disk import Disk
from taktora_trio.store.format import (
    CHANGES,
    HEAD,
    PREAMBLE,
    RECORDS,
    Change,
    ChannelHead,
    Frame,
    Head,
    Scan,
    is_newer,
    parse_name,
    read_records,
    scan,
)
from taktora_trio.store.ranges import Ranges
from taktora_trio.store.segment import Segment

__all__ = [
    "DAMAGED",
    "ChannelState",
    "Recovered",
    "belongs",
    "first_timestamp",
    "newest_head",
    "put_aside",
    "recover",
    "segment_files",
]

DAMAGED = "damaged"  # the folder, below the store's, for files that can't be read


@attrs.define
class ChannelState:
    """What is known of a channel, in memory."""

    id: int
    name: str
    last: int = 0
    origin: tuple[int, int] = (0, 0)
    values: dict[str, int] = attrs.field(factory=dict)
    live: Ranges = attrs.field(factory=Ranges)

    def head(self) -> ChannelHead:
        return ChannelHead(self.id, self.name, self.last, *self.origin, dict(self.values), list(self.live.bounds))


class Recovered(NamedTuple):
    segments: list[Segment]
    """In order. None is written to any more: the next commit begins a new one."""
    channels: dict[int, ChannelState]
    damage: list[str]
    """A line for each thing that can't be read, or was put aside."""
    next_segment: int


def belongs(head: Head | None, folder: Path, identity: str) -> None:
    """Raise `ConfigError` if the store is somebody else's."""
    if head is not None and head.identity != identity:
        raise ConfigError(
            f"the store {folder} is of '{escaped(head.identity)}', and not of '{identity}': give each its own folder"
        )


def segment_files(disk: Disk, folder: Path) -> list[Segment]:
    """Return the newest generation of each segment, in order; remove the others, and what was never completed."""
    newest: dict[int, Segment] = {}
    for name in sorted(disk.names(folder)):
        if name.endswith(".tmp"):
            disk.remove(folder / name)
        elif (parsed := parse_name(name)) is not None:
            segment = Segment(*parsed)
            if (older := newest.get(segment.number)) is not None:
                disk.remove(older.path(folder))
            newest[segment.number] = segment
    return [newest[number] for number in sorted(newest)]


def _read(disk: Disk, folder: Path, segment: Segment) -> Scan:
    """Return what is in a segment's file. Raises `ConfigError` for one of a newer version."""
    data = disk.read_all(segment.path(folder))
    if is_newer(data):
        raise ConfigError(
            f"the store {folder} was written by a newer version of taktora-trio: use that one, or another folder"
        )
    return scan(data, segment.seed, min(len(PREAMBLE), len(data)))


def _head(frames: list[Frame]) -> Head | None:
    """Return the head that the file begins with; `None` if it can't be read."""
    if not frames or frames[0].kind != HEAD:
        return None
    try:
        head = msgspec.msgpack.decode(frames[0].body, type=Head)
        for channel in head.channels:
            Ranges(channel.live)
    except ValueError:
        return None
    return head


def newest_head(disk: Disk, folder: Path, segments: list[Segment]) -> tuple[int, Head | None]:
    """Return the newest head that can be read, and where in the list its segment is; (0, None) if there is none."""
    for at in reversed(range(len(segments))):
        if (head := _head(_read(disk, folder, segments[at]).frames)) is not None:
            return at, head
    return 0, None


def put_aside(disk: Disk, folder: Path, segment: Segment) -> Path:
    """Move the file of a segment to where nobody looks but its owner; return its path there."""
    aside = folder / DAMAGED / segment.name
    disk.make_folder(aside.parent)
    disk.rename(segment.path(folder), aside)
    disk.sync_folder(aside.parent)
    disk.sync_folder(folder)
    return aside


def first_timestamp(frame: Frame) -> int:
    return next(read_records(frame)).timestamp


def recover(disk: Disk, folder: Path, identity: str) -> Recovered:
    """Read the whole log, one file at a time. Raises `ConfigError` for a store that must not be used, and `OSError`."""
    files = segment_files(disk, folder)
    begin, head = newest_head(disk, folder, files)
    belongs(head, folder, identity)
    disk.sync_folder(folder)
    state = _State(head)
    segments: list[Segment] = []
    damage: list[str] = []
    was_emptied = False  # when the disk was full, segments lost all but their heads: see `Writer`
    for at, segment in enumerate(files):
        disk.sync_file(segment.path(folder))  # a killed process may not have come to it; what is found counts as stored
        found = _read(disk, folder, segment)
        if not found.frames:
            aside = put_aside(disk, folder, segment)
            damage.append(f"nothing in {segment.name} can be read: it was put aside as {aside}")
            continue
        segment.size, segment.head_end = found.end, found.frames[0].end
        segments.append(segment)
        was_emptied = was_emptied or (at < len(files) - 1 and len(found.frames) == 1)
        for frame in found.frames:
            if not state.take(segment, frame, replay=at >= begin):
                found.gaps.append((frame.offset, frame.end))
        if found.gaps:
            segment.is_damaged = True
            where = ", ".join(f"{first} to {last}" for first, last in found.gaps)
            damage.append(
                f"{segment.name} is damaged, at bytes {where}: when the rest of it is done with, it is put aside in"
                f" {folder / DAMAGED}"
            )
    lost = list(state.lost())
    damage += [] if was_emptied else lost
    for segment in segments:
        for channel, part in segment.parts.items():
            part.live = state.channels[channel].live.count_within(part.first, part.last)
    return Recovered(segments, state.channels, damage, max((it.number for it in files), default=0) + 1)


class _State:
    """Follows the frames of all segments, in order."""

    def __init__(self, head: Head | None) -> None:
        self.channels: dict[int, ChannelState] = {}
        self._there: dict[int, Ranges] = {}
        for it in head.channels if head is not None else ():
            live = Ranges(it.live)
            self.channels[it.id] = ChannelState(it.id, it.name, it.last, (it.epoch, it.sequence), it.values, live)

    def take(self, segment: Segment, frame: Frame, *, replay: bool) -> bool:
        """Note what is in a frame. With `replay` it comes behind the head. Returns false if it can't be read."""
        try:
            if frame.kind == RECORDS:
                segment.add(frame, first_timestamp(frame))
                self._there.setdefault(frame.channel, Ranges()).add(frame.number, frame.last)
                channel = self._channel(frame.channel, "")
                if replay:
                    channel.live.add(frame.number, frame.last)
                    channel.last = max(channel.last, frame.last)
                    channel.origin = (
                        (frame.epoch, frame.sequence + frame.records - 1) if frame.epoch or frame.sequence else (0, 0)
                    )
            elif frame.kind == CHANGES and replay:
                for change in msgspec.msgpack.decode(frame.body, type=list[Change]):
                    self._change(change, Ranges(change.settled))
        except (ValueError, StopIteration):
            return False
        return True

    def _channel(self, identifier: int, name: str) -> ChannelState:
        channel = self.channels.get(identifier)
        if channel is None:
            channel = self.channels[identifier] = ChannelState(identifier, name)
        channel.name = name or channel.name or f"?{identifier}"
        return channel

    def _change(self, change: Change, settled: Ranges) -> None:
        channel = self._channel(change.id, change.name)
        channel.last = max(channel.last, change.last)
        channel.values = change.values
        for first, last in settled:
            channel.live.remove(first, last)

    def lost(self) -> Iterator[str]:
        """Forget the records that should be there and are not; return a line for each channel that has lost some."""
        for channel in self.channels.values():
            there = self._there.get(channel.id, Ranges())
            lost = Ranges(channel.live.bounds)
            for first, last in there:
                lost.remove(first, last)
            for first, last in lost:
                channel.live.remove(first, last)
            if lost:
                yield f"{lost.count} messages of the channel '{escaped(channel.name)}' can't be found in it any more"
