"""Following: a third process reads the messages of a channel that pass by, and neither half ever knows.

A message lies in its channel's ring until the writer needs its slot for another one, a window later. So who maps the
writer's memory, for reading alone, and looks at the channel's counters now and then, has every message: there is no
subscriber, no second ring, and not a call or a byte more for the two halves, whether anybody follows or not.

Nobody waits for who follows. One that comes too late, by a window, has lost those messages, and counts them. A slot
may be written to while it is copied. So after a copy it is asked whether the writer can have begun with that slot, and
if it can, the copy counts as lost. (Where a channel has a window of 1, that is so for each message that its reader is
done with: most of them are lost.)

What was read may be anything, for the writer may be broken: it is checked as a half checks it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from struct import Struct

from taktora_trio.channels import Envelope
from taktora_trio.errors import TransportError
from taktora_trio.transport.cursor import DONE, GENERATION, LIMIT, SENT
from taktora_trio.transport.envelope import CORRELATION_FIELD, HEADER, unpack
from taktora_trio.transport.fence import NEEDS_FENCE, fence
from taktora_trio.transport.outside import Onlooker
from taktora_trio.transport.ring import LAYOUT
from taktora_trio.transport.segments import PAGE, segments
from taktora_trio.transport.spec import ChannelSpec, Direction, TrunkSpec

__all__ = ["FollowedChannel", "FollowedTrunk"]

_AGAIN = 0.05  # seconds
_HEAD = Struct("<QQ")
_NUMBERS = Struct("<QQQIHHIH").unpack_from  # as an envelope's header begins
_WORD = Struct("<Q").unpack_from
_SLOT = Struct("<I").unpack_from


class FollowedTrunk:
    """The channels of one connector, as who looks on has them. `close` lets go of all memory."""

    def __init__(self, onlooker: Onlooker, prefix: str, *, recent: bool = False) -> None:
        """`prefix` is that of the domain's segments (`Domain.prefix`). The onlooker is closed with it.

        With `recent`, what is still there of the last window comes first.
        """
        self.spec = onlooker.spec
        self._onlooker = onlooker
        self._directions = {direction: _Writers(onlooker, direction, prefix) for direction in onlooker.spec.directions}
        self.channels = [
            FollowedChannel(spec, onlooker.counters(spec.name), self._directions[spec.direction], recent)
            for spec in onlooker.spec.channels
        ]

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        for writers in self._directions.values():
            writers.close()
        self._onlooker.close()


class FollowedChannel:
    """The messages of one channel, from now on, or with `recent` from a window ago."""

    def __init__(self, spec: ChannelSpec, counters: memoryview, writers: _Writers, recent: bool = False) -> None:
        self.spec = spec
        self.lost = 0
        """The number of messages that were written over before they were read here."""
        self.unreadable = 0
        """The number of messages whose envelope can't be true."""
        self._counters = counters
        self._writers = writers
        sent = counters[SENT]
        self._last = sent if sent <= LIMIT else 0
        writers.look()
        self._memory = writers.newest
        if recent and self._memory is not None:  # what the writers before it have sent is gone
            self._last = min(max(self._last - spec.window, self._memory.first(spec.name)), self._last)

    @property
    def waiting(self) -> int:
        """The number of messages that are there to be taken, or lost already."""
        return max(self._counters[SENT] - self._last, 0)

    def take(self, most: int = 1024) -> list[Envelope]:
        """Return the messages that have come since the last call, `most` at most. Never waits."""
        sent = self._counters[SENT]  # before the word that says who has sent it
        if NEEDS_FENCE:
            fence()
        last = self._last
        if not last < sent <= LIMIT and self._writers.is_known:
            return []
        self._writers.look()
        newest, memory = self._writers.newest, self._memory
        if newest is None or not self._writers.is_known:
            return []  # what comes from a writer whose memory is not found yet is not lost yet
        if memory is not newest:
            first = min(newest.first(self.spec.name), sent)
            if memory is None:
                self.lost += max(first - last, 0)
                last = max(first, last)
            if last < first and memory is not None:
                sent = first  # what the one before has sent comes first; it writes no more
            else:
                self._memory = memory = newest
        assert memory is not None
        window = self.spec.window
        if (oldest := sent - window) > last:
            self.lost += oldest - last
            last = oldest
        found = []
        for number in range(last + 1, min(sent, last + most) + 1):
            last = number
            copied = memory.copy(self.spec, number)
            if copied is None or not self._was_whole(number):
                self.lost += 1
                continue
            try:
                header, payload, topic, metadata = unpack(
                    memoryview(copied), self.spec.max_payload, self.spec.topic_space, self.spec.metadata_space
                )
            except TransportError:
                self.unreadable += 1
                continue
            found.append(Envelope(bytes(payload), header, topic, metadata))
        self._last = last
        return found

    def _was_whole(self, number: int) -> bool:
        """True if no writer can have begun with the next message in this slot by now."""
        if NEEDS_FENCE:
            fence()
        # It begins with one when the one before is sent, and when the reader is done with what was in the slot.
        return self._memory is not self._writers.newest or (
            self._counters[SENT] < number + self.spec.window - 1 or self._counters[DONE] < number
        )

    def close(self) -> None:
        self._memory = None
        self._counters.release()


class _Memory:
    """The rings of one writer, mapped for reading."""

    def __init__(self, spec: TrunkSpec, direction: Direction, mapped: mmap.mmap, at: int) -> None:
        self._mapped = mapped
        self._at = at
        self._places = spec.rings(direction)

    def first(self, name: str) -> int:
        """Return the last number of this channel that was used before this writer came."""
        first: int = _WORD(self._mapped, self._at + self._places[name].at)[0]
        return first

    def copy(self, spec: ChannelSpec, number: int) -> bytes | None:
        """Return the envelope of this number, or something of its size; `None` if it is not there."""
        place, size = self._places[spec.name], spec.envelope_size
        slot = _SLOT(self._mapped, self._at + place.table_at + 4 * (number % spec.window))[0]
        if slot >= spec.slots:
            return None
        at = self._at + place.slots_at + slot * size
        found, _, _, payload, topic, metadata, _, id_length = _NUMBERS(self._mapped, at)
        if found != number:
            return None
        length = HEADER.size + payload + topic + metadata + max(0, id_length - CORRELATION_FIELD)
        return self._mapped[at : at + min(length, size)]


class _Writers:
    """Finds the memory of the present writer of a direction."""

    def __init__(self, onlooker: Onlooker, direction: Direction, prefix: str) -> None:
        self.newest: _Memory | None = None
        """That of the newest writer whose memory was found."""
        self._spec = onlooker.spec
        self._direction = direction
        self._word = GENERATION[direction]
        self._head = onlooker.head
        self._prefix = prefix
        self._known = 0  # the generation of `newest`
        self._looked = float("-inf")

    @property
    def is_known(self) -> bool:
        """True if the memory of the present writer, or of the last one, was found."""
        return self._head[self._word] in (0, self._known)

    def look(self) -> None:
        """Look for the memory of the present writer, unless it is known."""
        generation = self._head[self._word]
        now = time.monotonic()
        if generation in (0, self._known) or now < self._looked + _AGAIN:  # 0: a writer begins
            return
        self._looked = now
        found = _find(self._prefix, self._spec, self._direction, generation)
        if found is not None:
            self.newest, self._known = found, generation

    def close(self) -> None:
        self.newest = None


def _find(prefix: str, spec: TrunkSpec, direction: Direction, generation: int) -> _Memory | None:
    """Return the memory that begins with this number; `None` if no segment has it (any more)."""
    size, begins_with = spec.rings_bytes(direction), _HEAD.pack(generation, LAYOUT)
    for segment in segments(prefix):
        if segment.size < size:
            continue
        with contextlib.suppress(OSError):  # removed meanwhile
            fd = os.open(segment.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                at = os.pread(fd, PAGE, 0).find(begins_with)
                if at >= 0 and at % 8 == 0 and at + size <= (whole := os.fstat(fd).st_size):
                    return _Memory(spec, direction, mmap.mmap(fd, whole, prot=mmap.PROT_READ), at)
            finally:
                os.close(fd)
    return None
