"""Cursors: the counters of a connector's channels, in one small file of the domain that outlives both halves.

They tell a writer when its window is full, and a reader that takes over from a killed one where to go on.

(An iceoryx2 blackboard would not do: after its writer was killed, no other can be opened.)
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from taktora_trio.errors import ServiceMismatch, TransportError
from taktora_trio.escaping import escaped
from taktora_trio.transport.descriptors import refusal
from taktora_trio.transport.plain import PlainMemory
from taktora_trio.transport.ports import Node
from taktora_trio.transport.receipts import Receipts
from taktora_trio.transport.segments import in_pages
from taktora_trio.transport.spec import (
    COUNTERS_BYTES,
    FORMAT,
    OTHER_DEPLOYMENT,
    OTHER_INSTALLATION,
    ChannelSpec,
    Direction,
    TrunkSpec,
)

__all__ = [
    "ACKNOWLEDGED",
    "BEGUN",
    "DONE",
    "EPOCH",
    "FULL",
    "GENERATION",
    "LEFT",
    "LIMIT",
    "MAGIC",
    "OPENED",
    "READER",
    "SENT",
    "TEXT_AT",
    "WANTED",
    "Cursor",
    "CursorFile",
    "check_cursors",
    "cursors_at",
    "cursors_size",
    "lost_counters",
    "map_cursors",
    "plain_cursors",
]

log = logging.getLogger(__name__)

SENT, DONE, READER, BEGUN, ACKNOWLEDGED, LEFT, WANTED, EPOCH = range(8)
OPENED = WANTED  # inbound, where nobody wants a receipt
_EPOCHS = 2**63  # it fits where signed numbers are kept
FULL = 2**63
"""In the word of `CursorFile.taken`: the reader can keep the memory of no writer beside that of those before it."""
LIMIT = 2**62  # a million messages a second would get there in 146,000 years

# The head of the file: words, then the channels as JSON.
_NAME = b"CURSORS"
MAGIC = int.from_bytes(_NAME + bytes([ord("0") + FORMAT]), "little")
_MAGIC_AT, _LENGTH_AT = 0, 1
GENERATION: dict[Direction, int] = {"out": 2, "in": 3}
_ATTACHED: dict[Direction, int] = {"out": 4, "in": 5}
_TAKEN: dict[Direction, int] = {"out": 6, "in": 7}
TEXT_AT = 64
_SHOWN = 5  # channels that differ


class CursorFile:
    """The cursors of all channels of a connector, and what its halves say of their memory.

    Raises `SharedMemoryFull` if /dev/shm has no page for it, `TooFewDescriptors`, and `ServiceMismatch` if it was made
    for other channels than these.
    """

    def __init__(self, node: Node, spec: TrunkSpec) -> None:
        self._memory = node.map_cursors(spec)
        self._whole = memoryview(self._memory)
        self._head = self._whole[:TEXT_AT].cast("Q")
        self._places = cursors_at(spec)
        self._spec = spec
        self._open: dict[str, Cursor] = {}

    def cursor(self, name: str) -> Cursor:
        """Return the cursor of this channel: always the same one. It lasts as long as this."""
        if (cursor := self._open.get(name)) is None:
            spec, at = self._spec.by_name[name], self._places[name]
            self._open[name] = cursor = Cursor(self._whole[at : at + spec.counters_bytes], spec)
        return cursor

    def generation(self, direction: Direction) -> memoryview:
        """Return the word that says which writer's rings are the present ones: see `Rings`. 0 while one begins."""
        return self._head[GENERATION[direction] : GENERATION[direction] + 1]

    def attached(self, direction: Direction) -> memoryview:
        """Return the word that counts those who came to read this direction."""
        return self._head[_ATTACHED[direction] : _ATTACHED[direction] + 1]

    def taken(self, direction: Direction) -> memoryview:
        """Return the word that says which writer's rings the reader of this direction took last; 0 for none.

        With `FULL` added it takes no others for now: what another writer sends would be lost if that is killed.
        """
        return self._head[_TAKEN[direction] : _TAKEN[direction] + 1]

    def close(self) -> None:
        for cursor in self._open.values():
            cursor.close()
        self._head.release()
        self._whole.release()
        with contextlib.suppress(BufferError):  # somebody has a view of a word, whose memory then stays
            self._memory.close()


def lost_counters() -> memoryview:
    """Return counters that nobody else has, for an end that is still used when its half is closed."""
    return memoryview(bytearray(COUNTERS_BYTES)).cast("Q")


class Cursor:
    """The counters of one channel, in shared memory: aligned 8-byte stores, never torn, each written by one end alone.

    Each is a sequence number of envelopes:

    `counters[SENT]`      the last one that the writer has sent: what is in a ring behind it is nobody's yet
    `counters[BEGUN]`     the last one that the reader has begun to pass on, where that matters
    `counters[DONE]`      the one up to which the reader is done with all: nobody needs those any more. Outbound,
                          they are stored or acknowledged by the other side; inbound, the app is done with them
    `counters[READER]`    no number: not 0 while a reader is open. One that is killed leaves it
    `counters[ACKNOWLEDGED]`  outbound, written by the reader: the other side has acknowledged or refused all up to
                          it. Inbound, written by the writer: it has begun to acknowledge all up to it
    `counters[WANTED]`    outbound, written by the writer: not 0 while somebody waits for a receipt
    `counters[EPOCH]`     a number by which one numbering is told from another: see `Cursor.epoch`

    `counters[LEFT]`      inbound, written by the writer as it opens: `ACKNOWLEDGED` as the one before has left it;
                          above `OPENED` if the other side has forgotten all that it had sent
    `counters[OPENED]`    inbound, written by the writer as it opens: the last one that was sent before

    They are a plain view, for they are looked at for every message. The peer has them mapped, too, and may be broken,
    so any number can be read there.
    """

    def __init__(self, memory: memoryview, spec: ChannelSpec) -> None:
        self.counters = memory[:COUNTERS_BYTES].cast("Q")
        self.receipts = Receipts(memory[COUNTERS_BYTES:], spec.window)
        """Outbound: what became of single messages."""
        self.epoch = self.counters[EPOCH]
        """A random number, the same for as long as this file is there: it tells this numbering from any other, such as
        that of the run before. 0 if it can't be trusted: then nothing that was written down goes with these numbers."""
        if not 0 < self.epoch < _EPOCHS:
            log.error(
                "%s: its cursor has no epoch, which can't be: its numbers are taken for new ones",
                spec.name,
                extra={"event": "cursor-renumbered", "service": spec.name},
            )
            self.epoch = 0
        self._memory = memory
        self._name, self._window = spec.name, spec.window
        self._doubted = False

    def used(self) -> int:
        """Return the last sequence number that was sent, to go on from. For one that can't be, it is a number that is
        certainly not less, and too far away to be believed."""
        sent = self.counters[SENT]
        if sent <= LIMIT:
            return sent
        self.doubt()
        done = self.counters[DONE]
        return done + 2 * self._window + 1 if done <= LIMIT else 0  # so nobody looks for what is below it

    def begun(self) -> int:
        """Return the last number that a reader has begun to pass on; 0 for one that can't be."""
        begun = self.counters[BEGUN]
        if begun <= self.used():
            return begun
        self.doubt()
        return 0

    def acknowledged(self, first: int, last: int, word: int = DONE) -> int:
        """Return the number up to which all is done with, or with `word` another counter's.

        It is `first` for one that is not from `first` to `last`.
        """
        if first <= (number := self.counters[word]) <= last:
            return number
        if number > last:
            self.doubt()
        return first

    def not_acknowledged(self, most: int) -> int:
        """Return the number of envelopes sent and not acknowledged, `most` at most; in doubt so many."""
        missing = self.counters[SENT] - self.counters[DONE]
        if missing < 0 and self.counters[DONE] > self.used():
            self.doubt()
            return most
        return min(max(missing, 0), most)

    def doubt(self, done: int | None = None) -> None:
        """Log, once, that the counters say what can't be. `done` is what should be there, for one that knows it."""
        if not self._doubted:
            self._doubted = True
            sent, said = self.counters[SENT], self.counters[DONE]
            impossible = (
                "%s: its cursor says that %d messages were sent and %d acknowledged, which can't be and is not believed"
            )
            if done is None:
                log.error(
                    impossible, self._name, sent, said, extra={"event": "cursor-impossible", "service": self._name}
                )
            else:
                log.error(
                    f"{impossible}: it is %d",
                    self._name,
                    sent,
                    said,
                    done,
                    extra={"event": "cursor-impossible", "service": self._name},
                )

    def close(self) -> None:
        self.receipts.close()
        self.counters.release()
        self._memory.release()


def cursors_size(spec: TrunkSpec) -> int:
    """Return the bytes of the file."""
    return _text_bytes(spec) + spec.cursors_bytes


def cursors_at(spec: TrunkSpec) -> dict[str, int]:
    """Return where in the file the cursor of each channel begins, by name."""
    places, at = {}, _text_bytes(spec)
    for channel in spec.channels:
        places[channel.name] = at
        at += channel.counters_bytes
    return places


def map_cursors(folder: Path, spec: TrunkSpec) -> mmap.mmap:
    """Map the file of cursors in this folder, which is made if there is none. Raises as `CursorFile` does."""
    path = folder / spec.name
    size = cursors_size(spec)
    try:
        fd = _open(path, spec)
        try:
            _check(fd, path, spec)
            os.posix_fallocate(fd, 0, size)
            return mmap.mmap(fd, size)
        finally:
            os.close(fd)
    except OSError as exc:
        raise refusal(f"the cursors of {spec.name}", exc, f"cannot open {path}: {exc.strerror}") from exc


def check_cursors(folder: Path, spec: TrunkSpec) -> None:
    """Raise `ServiceMismatch` if the file in this folder is not for these channels, or if there is none."""
    path = folder / spec.name
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ServiceMismatch(f"{spec.name} is not in the domain. {OTHER_DEPLOYMENT}") from None
    except OSError as exc:
        raise TransportError(f"cannot open {path}: {exc.strerror}") from exc
    try:
        _check(fd, path, spec)
    finally:
        os.close(fd)


def plain_cursors(spec: TrunkSpec) -> PlainMemory:
    """Return what a new file of cursors holds."""
    memory = PlainMemory(cursors_size(spec))
    for at, content in _beginning(spec):
        memory[at : at + len(content)] = content
    return memory


def _beginning(spec: TrunkSpec) -> Iterator[tuple[int, bytes]]:
    """Yield what is in a new file besides zeros, each piece with its place."""
    text = _text(spec)
    yield 8 * _MAGIC_AT, _word(MAGIC) + _word(len(text))
    yield TEXT_AT, text
    for at in cursors_at(spec).values():
        yield at + 8 * EPOCH, _word(random.SystemRandom().randrange(1, _EPOCHS))


def _text_bytes(spec: TrunkSpec) -> int:
    return in_pages(TEXT_AT + len(_text(spec)))


def _text(spec: TrunkSpec) -> bytes:
    return msgspec.json.encode({channel.name: channel.description for channel in spec.channels})


def _open(path: Path, spec: TrunkSpec) -> int:
    """Open the file, which is made if there is none: with all that is in it, whoever else opens it just then."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        _make(path, spec)


def _make(path: Path, spec: TrunkSpec) -> None:
    unfinished = path.with_name(f"{path.name}~{os.urandom(8).hex()}")
    fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(fd, cursors_size(spec))
        for at, content in _beginning(spec):
            os.pwrite(fd, content, at)
        with contextlib.suppress(FileExistsError):  # somebody else was faster, and that one counts
            os.link(unfinished, path)
    finally:
        os.close(fd)
        unfinished.unlink()


def _word(number: int) -> bytes:
    return number.to_bytes(8, "little")


def _check(fd: int, path: Path, spec: TrunkSpec) -> None:
    """Raise `ServiceMismatch` unless it was made for these channels."""
    size = os.fstat(fd).st_size
    head = os.pread(fd, TEXT_AT, 0)
    length = int.from_bytes(head[8 * _LENGTH_AT :][:8], "little")
    magic = head[8 * _MAGIC_AT :][:8]
    if magic.startswith(_NAME) and int.from_bytes(magic, "little") != MAGIC:
        theirs_is = magic[len(_NAME)] - ord("0")
        raise ServiceMismatch(
            f"this half has format {FORMAT} of what lies in shared memory, the domain has format {theirs_is}."
            f" {OTHER_INSTALLATION}"
        )
    if int.from_bytes(magic, "little") != MAGIC or length > size:
        raise TransportError(f"{path} is no file of cursors: stop everything in this domain and start again")
    text = os.pread(fd, length, TEXT_AT)
    if text == _text(spec) and size == cursors_size(spec):
        return
    try:
        theirs = msgspec.json.decode(text, type=dict[str, str])
    except msgspec.MsgspecError as exc:
        raise TransportError(f"{path} can't be read: stop everything in this domain and start again ({exc})") from exc
    ours = {channel.name: channel.description for channel in spec.channels}
    raise ServiceMismatch(_mismatch(ours, theirs, spec.name))


def _mismatch(ours: Mapping[str, str], theirs: Mapping[str, str], name: str) -> str:
    """Say which channels are not the same in this half and in the domain, and in what."""
    unlike = [
        f"channel {channel}: {_unlike(ours.get(channel), theirs.get(channel))}"
        for channel in dict.fromkeys([*ours, *theirs])
        if ours.get(channel) != theirs.get(channel)
    ]
    more = f"; and {len(unlike) - _SHOWN} more channels" if len(unlike) > _SHOWN else ""
    what = "; ".join(unlike[:_SHOWN]) or f"the channels of {name} are in another order or size in the domain"
    return f"{escaped(what, 2000)}{more}. {OTHER_DEPLOYMENT}"


def _unlike(ours: str | None, theirs: str | None) -> str:
    """Say in what two descriptions differ, each a list with commas."""
    if ours is None or theirs is None:
        return "this half has no such channel" if ours is None else "the domain has no such channel"
    here, there = ours.split(", "), theirs.split(", ")
    only_here = ", ".join(part for part in here if part not in there)
    only_there = ", ".join(part for part in there if part not in here)
    return f"this half has {only_here or ours}, the domain has {only_there or theirs}"
