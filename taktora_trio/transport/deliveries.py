"""Deliveries: how often the app was given each message of an inbound channel that it is not done with.

In a small file that outlives both ends of the channel, and the run: a message that kills everything is counted, too. A
message is known again by its identity, since the next run has other numbers. Only the reader writes to the file. The
gateway looks into it for the reasons of messages that were given up.
"""

from __future__ import annotations

import mmap
import os
import zlib
from struct import Struct
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from taktora_trio.channels.codec import Buffer
    from taktora_trio.transport.plain import Memory

__all__ = ["DEAD", "DONE", "IN_HAND", "WHOLE", "Deliveries", "Handed", "deliveries_size", "identity_of", "is_needed"]

_MAGIC = int.from_bytes(b"DELIVTK1", "little")
_MAGIC_AT, _GENERATION, _DONE, _CARRIED, _BURIED, _WINDOW, _HEADER = 0, 1, 2, 3, 4, 5, 8  # words of 8 bytes
_SLOT = 3  # words: identity, state and counts, number
_SLOTS_AT, _SLOT_BYTES = 8 * _HEADER, 8 * _SLOT
_pack_slot = Struct("=QQQ").pack_into
_REASON, _REASON_BYTES = 22, 160  # words, of which the first two are the number and the length
_MOST_REASONS = 64
WHOLE = 64 * 1024
"""Bytes of a payload that its identity looks at."""

IN_HAND, DONE, DEAD = 1, 2, 3
"""The states of a message: the app has it; is done with it, before an earlier one, or for good since nobody keeps it;
it was given up."""
_ONCE = DONE << 48 | 1
_FIRST_TIME = IN_HAND << 48 | 1
_COUNT = 0xFFFF


def identity_of(payload: Buffer, topic: str = "") -> int:
    """Return the number by which a message is known again, whatever its sequence number. It looks at no more than the
    first and the last 32 KiB of a payload."""
    length = len(payload)
    check = zlib.crc32(topic.encode()) if topic else 0
    if length <= WHOLE:
        return zlib.crc32(payload, check) | (length & 0xFFFFFFFF) << 32
    view = memoryview(payload)
    check = zlib.crc32(view[-WHOLE // 2 :], zlib.crc32(view[: WHOLE // 2], check))
    return check | (length & 0xFFFFFFFF) << 32


class Handed(msgspec.Struct, frozen=True):
    """A message that the app was given, as the file has it."""

    number: int
    identity: int
    delivery_id: int
    state: int


def deliveries_size(window: int) -> int:
    """Return the bytes of the file of a channel with this window."""
    return 8 * _words(window)


def _words(window: int) -> int:
    return _HEADER + 3 * window * _SLOT + min(window, _MOST_REASONS) * _REASON


class _Keeping(Protocol):
    """A `Node`, whose module is above this one."""

    @property
    def generation(self) -> int: ...

    def map_kept(self, name: str, size: int) -> Memory: ...


class Deliveries:
    """The file of one channel. Slots by sequence number, twice as many as the window, and those of earlier runs.

    A slot is written to in such an order that a reader that is killed at any moment leaves it right. The peer, or an
    earlier run, may be broken: what can't be is taken for nothing.

    Raises `SharedMemoryFull` if /dev/shm has no room for it, and `TooFewDescriptors`.
    """

    def __init__(self, node: _Keeping, service: str, window: int) -> None:
        self._memory = node.map_kept(f"{service}.{window}", deliveries_size(window))
        self._words = memoryview(self._memory).cast("Q")
        self._generation = node.generation
        self._window = window
        self._ring = 2 * window
        self._carried_at = _HEADER + self._ring * _SLOT
        self._reasons_at = self._carried_at + window * _SLOT
        self._reasons = min(window, _MOST_REASONS)
        self._carried: dict[int, int] = {}

    # The reader's side

    def resume(self, done: int, last: int) -> list[Handed]:
        """Begin as the channel's reader, which is given the messages behind `done`; `last` is the last one sent.

        Returns those that an earlier reader of this run was given: they are done with, in hand (and will come again if
        their numbers are above `done`), or dead. What an earlier run was not done with is known by its identity.
        """
        words = self._words
        self._carried = {}
        if words[_MAGIC_AT] != _MAGIC or words[_WINDOW] != self._window:
            self._clear()
            words[_GENERATION] = self._generation
            return []  # at once, for there may be thousands of channels
        is_same_run = words[_GENERATION] == self._generation
        before = done if is_same_run else words[_DONE]
        found = []
        for place in range(_HEADER, self._carried_at, _SLOT):
            handed = self._handed(place)
            if handed.state not in (IN_HAND, DONE, DEAD) or (is_same_run and not 0 < handed.number <= last):
                continue
            if handed.state == IN_HAND and handed.number > before:
                if is_same_run or handed.delivery_id:  # else nobody sends it again
                    self._carry(place)
                words[place + 1] = 0
                continue
            found.append(handed)
        if is_same_run:
            words[_DONE] = done
        else:
            words[_HEADER : self._carried_at] = memoryview(bytes(8 * self._ring * _SLOT)).cast("Q")
            words[_BURIED] = words[_DONE] = 0
            words[_GENERATION] = self._generation
            found = []
        for place in range(self._carried_at, self._reasons_at, _SLOT):
            if (counts := words[place + 1]) and counts & _COUNT >= self._attempts_of(words[place]):
                self._carried[words[place]] = place
        return sorted(found, key=lambda handed: handed.number)

    def handing_over(self, number: int, identity: int, delivery_id: int = 0) -> int:
        """Record that the app is about to be given this message. Returns how often it was, this time included."""
        if self._carried and identity in self._carried:
            return self._hand_over_again(number, identity, delivery_id)
        # One call, for it is made for every message. It writes the number last.
        _pack_slot(
            self._memory,
            _SLOTS_AT + number % self._ring * _SLOT_BYTES,
            identity,
            delivery_id << 32 | _FIRST_TIME,
            number,
        )
        return 1

    def handing_over_once(self, number: int) -> None:
        """Record that the app is about to be given this message, and that no later reader is."""
        _pack_slot(self._memory, _SLOTS_AT + number % self._ring * _SLOT_BYTES, 0, _ONCE, number)

    def again(self, number: int) -> int:
        """Record that the app is about to be given a message again that it has given back. Returns how often it was."""
        place = self._place(number)
        if place is None:
            return 2  # another has its slot: it is in hand for more than two windows
        counts = self._words[place + 1]
        if counts & _COUNT < _COUNT:
            counts += 1
            self._words[place + 1] = counts
        return counts & _COUNT

    def not_given(self, number: int) -> None:
        """Record that the app was not given it after all, since it is given up."""
        place = self._place(number)
        if place is not None and self._words[place + 1] & _COUNT:
            self._words[place + 1] -= 1

    def excuse(self, number: int) -> None:
        """Record that it was given back for a reason of the app's own, such as its stop: see `failures`."""
        place = self._place(number)
        if place is not None and (counts := self._words[place + 1]) >> 16 & _COUNT < _COUNT:
            self._words[place + 1] = counts + (1 << 16)

    def failures(self, number: int) -> int:
        """Return how often it was given to the app, this time not included, and not excused."""
        place = self._place(number)
        if place is None:
            return 0
        counts = self._words[place + 1]
        return (counts & _COUNT) - 1 - (counts >> 16 & _COUNT)

    def done_up_to(self, number: int) -> None:
        """Record that the app is done with all up to this message. Only the next run needs it, so it may be late."""
        self._words[_DONE] = number

    def done(self, number: int) -> None:
        """Record that the app is done with this message, which is not the first of those that it has in hand."""
        self._set_state(number, DONE)

    def bury(self, number: int, reason: str) -> None:
        """Give this message up, before the app is said to be done with it: the gateway finds the reason."""
        words = self._words
        encoded = reason.encode(errors="replace")[:_REASON_BYTES]
        count = words[_BURIED] % 2**32
        start = self._reasons_at + count % self._reasons * _REASON
        words[start] = 0
        self._memory[8 * (start + 2) : 8 * (start + 2) + len(encoded)] = encoded
        words[start + 1] = len(encoded)
        words[start] = number
        if self._place(number) is None:  # it comes for an earlier one that was given up
            place = _HEADER + number % self._ring * _SLOT
            words[place] = words[place + 1] = 0
            words[place + 2] = number
        self._set_state(number, DEAD)
        words[_BURIED] = count + 1

    # The gateway's side

    def reason_of(self, number: int) -> str | None:
        """Return why the app has given this message up; `None` if it has not. Ask once it is done with it, and before
        another whole window is sent: then its slot is used for the next one."""
        if not self._words[_BURIED]:
            return None
        place = self._place(number)
        if place is None or self._words[place + 1] >> 48 != DEAD:
            return None
        for start in range(self._reasons_at, len(self._words), _REASON):
            if self._words[start] == number:
                length = min(self._words[start + 1], _REASON_BYTES)
                begin = 8 * (start + 2)
                return bytes(self._memory[begin : begin + length]).decode(errors="ignore")  # it may be cut in a letter
        return "it was given up, for a reason that later ones have taken the place of"

    @property
    def has_buried(self) -> bool:
        """True if a message of this run was given up: only then is `reason_of` worth asking."""
        return self._words[_BURIED] > 0

    def was_given_once(self, number: int) -> bool:
        """True if the app was given this message by `handing_over_once`: nobody is to be done with it."""
        place = self._place(number)
        return place is not None and self._words[place + 1] >> 48 == DONE

    def count_of(self, number: int) -> int:
        """Return how often the app was given this message, as `reason_of` says why it was given up."""
        place = self._place(number)
        return 0 if place is None else self._words[place + 1] & _COUNT

    def close(self) -> None:
        self._words.release()
        self._memory.close()

    # Slots

    def _place(self, number: int) -> int | None:
        place = _HEADER + number % self._ring * _SLOT
        return place if self._words[place + 2] == number else None

    def _handed(self, place: int) -> Handed:
        identity, counts, number = self._words[place : place + _SLOT]
        return Handed(number, identity, counts >> 32 & 0xFFFF, counts >> 48)

    def _attempts_of(self, identity: int) -> int:
        """Return how often an earlier reader was given it: a killed one may have left it in two places."""
        place = self._carried.get(identity)
        return 0 if place is None else self._words[place + 1] & _COUNT

    def _set_state(self, number: int, state: int) -> None:
        if (place := self._place(number)) is not None:
            self._words[place + 1] = self._words[place + 1] & (1 << 48) - 1 | state << 48

    def _hand_over_again(self, number: int, identity: int, delivery_id: int) -> int:
        words = self._words
        carried = self._carried[identity]
        if words[carried + 2] != number and not delivery_id:
            del self._carried[identity]  # another message with the same content: that one does not come again
            words[carried + 1] = 0
            return self.handing_over(number, identity, delivery_id)
        counts = words[carried + 1] & 0xFFFFFFFF
        if counts & _COUNT < _COUNT:
            counts += 1
        place = _HEADER + number % self._ring * _SLOT
        words[place] = identity
        words[place + 1] = IN_HAND << 48 | delivery_id << 32 | counts
        words[place + 2] = number
        words[carried + 1] = 0
        del self._carried[identity]
        return counts & _COUNT

    def _carry(self, place: int) -> None:
        """Copy a slot to those that are known by identity alone, in the place of the oldest."""
        words = self._words
        count = words[_CARRIED] % 2**32
        to = self._carried_at + count % self._window * _SLOT
        words[_CARRIED] = count + 1
        words[to + 1] = 0
        words[to] = words[place]
        words[to + 2] = words[place + 2]
        words[to + 1] = words[place + 1]

    def _clear(self) -> None:
        self._words[0] = 0
        self._memory[8:] = bytes(len(self._memory) - 8)
        self._words[_WINDOW] = self._window
        self._words[_MAGIC_AT] = _MAGIC


def is_needed(fd: int) -> bool:
    """True if the file tells of a message that the app was not done with, so that the next run wants it."""
    size = os.fstat(fd).st_size
    if size < 8 * _HEADER or size % 8:
        return False
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as memory, memoryview(memory).cast("Q") as words:
        window = words[_WINDOW]
        if words[_MAGIC_AT] != _MAGIC or len(words) != _words(window):
            return False
        carried = _HEADER + 2 * window * _SLOT
        for place in range(_HEADER, carried + window * _SLOT, _SLOT):
            state, number = words[place + 1] >> 48, words[place + 2]
            if state == IN_HAND and (place >= carried or number > words[_DONE]):
                return True
        return False
