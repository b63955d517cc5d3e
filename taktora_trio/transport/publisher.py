"""EnvelopePublisher: the writing end of a channel, the only code that writes envelopes into shared memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING

import msgspec
import trio

from taktora_trio.boottime import clock_of_run, machine_clock
from taktora_trio.channels.codec import Buffer
from taktora_trio.errors import PayloadOverflow, TransportError
from taktora_trio.transport.cursor import ACKNOWLEDGED, LEFT, OPENED, READER, SENT, WANTED, Cursor, lost_counters
from taktora_trio.transport.envelope import CORRELATION_FIELD, HEADER, sent_at
from taktora_trio.transport.fence import NEEDS_FENCE, fence
from taktora_trio.transport.spec import SPARE_SLOTS, ChannelSpec

if TYPE_CHECKING:
    from taktora_trio.transport.bell import Wakeup
    from taktora_trio.transport.outgoing import Outgoing

__all__ = ["CHECKPOINT_EVERY", "EnvelopePublisher", "Loan"]

# In a burst, let other tasks run after so many messages; a full checkpoint costs more than a message.
CHECKPOINT_EVERY = 32

_START = HEADER.size
_pack_plain = Struct("<QQQIHHIH").pack_into  # the header of an envelope with no correlation id
_time_ns = time.time_ns


class Loan(msgspec.Struct):
    """A slot on loan, with its payload still to be written or sent, and what is sent with it."""

    slot: int
    buffer: memoryview
    length: int
    topic: bytes
    metadata: bytes
    correlation_id: bytes
    _spare: list[int]

    @property
    def payload(self) -> memoryview:
        return self.buffer[_START : _START + self.length]

    def give_back(self) -> None:
        """Give it back unsent."""
        self._spare.append(self.slot)


class EnvelopePublisher:
    """Sends envelopes and never waits. `Trunk.publisher` returns it."""

    def __init__(
        self,
        spec: ChannelSpec,
        outgoing: Outgoing,
        first: int,
        cursor: Cursor,
        ring: Callable[[], int],
        space: Wakeup,
    ) -> None:
        """It goes on behind the number `first`."""
        self.spec = spec
        self.space = space
        """Woken when a reader has made room, and when one has come."""
        self.bytes = 0
        """Bytes of payload that were sent."""
        self._outgoing = outgoing
        self._cursor = cursor
        self._counters = cursor.counters
        self.ring = ring
        """Rings the channel in the other half."""
        rings = outgoing.rings
        place = rings.places[spec.name]
        self._memory = rings.memory
        self._table = rings.table(place, spec.window)
        self._slots_at, self._size = place.slots_at, spec.envelope_size
        # Where the slot of each number lies, by number % window; and the slots that no number has.
        self._at = [self._slots_at + slot * self._size for slot in range(spec.window)]
        self._spare = [spec.window + spare for spare in range(SPARE_SLOTS)]
        self._max_payload = spec.max_payload
        self._topic_space = spec.topic_space
        self._metadata_space = spec.metadata_space
        self._window = spec.window
        self.receipts = cursor.receipts
        """What became of single messages: see `Receipts`."""
        self._wanted = 0
        self._is_flushing = self._closed = False
        # An app compares the time of what it gets with the machine's.
        self._boottime = clock_of_run() if spec.direction == "out" else machine_clock
        self.first = self._sequence_number = self._room_until = first
        """The last sequence number that was used before this port was opened."""

    def send(
        self,
        payload: Buffer,
        topic: bytes = b"",
        metadata: bytes = b"",
        correlation_id: bytes = b"",
        flags: int = 0,
    ) -> int:
        """Copy the payload into shared memory and send it. Returns its sequence number; 0, with nothing done, if there
        is no room.

        `flags` are those of the envelope's header.

        Raises `PayloadOverflow`.
        """
        length, number = len(payload), self._sequence_number + 1
        if length > self._max_payload or topic or metadata or correlation_id:
            self._check_size(length, topic, metadata, correlation_id)
        if number > self._room_until and not self.has_room:
            return 0
        at, memory = self._at[number % self._window], self._memory
        begin = at + _START
        end = begin + length
        memory[begin:end] = payload
        if topic or metadata or correlation_id:
            self._pack(memory, at, number, length, topic, metadata, correlation_id, flags)
        else:
            _pack_plain(memory, at, number, _time_ns(), self._boottime(), length, 0, 0, flags, 0)
        if NEEDS_FENCE:
            fence()
        self._counters[SENT] = number  # this sends it
        self._sequence_number = number
        self.bytes += length
        self.ring()  # 0.1 us while the reader is awake, so always: a lost wake-up would cost far more
        return number

    def loan(self, length: int, topic: bytes = b"", metadata: bytes = b"", correlation_id: bytes = b"") -> Loan:
        """Return shared memory for a payload of `length` bytes and what goes with it. Raises `PayloadOverflow`."""
        self._check_size(length, topic, metadata, correlation_id)
        if not self._spare:
            raise TransportError(f"no more loans from {self.spec.name}: end a loan() that is open before the next")
        slot = self._spare.pop()
        at = self._slots_at + slot * self._size
        buffer = self._memory[at : at + self._size]
        return Loan(slot, buffer, length, topic, metadata, correlation_id, self._spare)

    def send_loan(self, loan: Loan) -> int:
        """Send what was written. Returns its sequence number; 0 if there is no room.

        The loan is then as it was, for another try.
        """
        if not self.has_room:
            return 0
        number = self._sequence_number + 1
        self._pack(loan.buffer, 0, number, loan.length, loan.topic, loan.metadata, loan.correlation_id, 0)
        index = number % self._window
        before = (self._at[index] - self._slots_at) // self._size
        self._table[index] = loan.slot  # the number that was here is done with
        if NEEDS_FENCE:
            fence()
        self._counters[SENT] = number
        self._sequence_number = number
        self._at[index] = self._slots_at + loan.slot * self._size
        self._spare.append(before)
        self.bytes += loan.length
        self.ring()
        return number

    def _pack(
        self,
        memory: memoryview,
        at: int,
        number: int,
        length: int,
        topic: bytes,
        metadata: bytes,
        correlation_id: bytes,
        flags: int,
    ) -> None:
        """Write all of an envelope but its payload."""
        id_length = len(correlation_id)
        HEADER.pack_into(
            memory,
            at,
            number,
            _time_ns(),
            self._boottime(),
            length,
            len(topic),
            len(metadata),
            flags,
            id_length,
            correlation_id,
        )
        beside = topic + metadata + correlation_id[CORRELATION_FIELD:]
        end = at + _START + length
        memory[end : end + len(beside)] = beside

    def _check_size(self, length: int, topic: bytes, metadata: bytes, correlation_id: bytes) -> None:
        beside = len(metadata) + max(0, len(correlation_id) - CORRELATION_FIELD)
        if length > self._max_payload or len(topic) > self._topic_space or beside > self._metadata_space:
            raise PayloadOverflow(
                f"a payload of {length} bytes, a topic of {len(topic)} and metadata of {beside} (with what a"
                f" correlation id of {len(correlation_id)} has beyond {CORRELATION_FIELD}), where"
                f" {self.spec.name} takes {self._max_payload}, {self._topic_space} and {self._metadata_space}:"
                " send less, or raise its max_payload, max_topic or max_metadata"
            )

    @property
    def sent(self) -> int:
        """The number of envelopes that were sent by this port."""
        return self._sequence_number - self.first

    def age_of(self, number: int) -> float | None:
        """Return the seconds since this envelope was sent; `None` if it is not one of the last ones."""
        if self._closed or not max(self.first, self._sequence_number - self._window) < number <= self._sequence_number:
            return None
        sent = sent_at(self._memory, self._at[number % self._window], number)
        return None if sent is None else max(0, self._boottime() - sent) / 1e9

    @property
    def last_sent(self) -> int:
        """The sequence number of the last envelope that was sent; 0 if there is none."""
        return self._sequence_number

    def close(self) -> None:
        """Send nothing more. Who has this end may close it later than its half."""
        self._closed = True
        self._counters = lost_counters()
        self._room_until = -1

    @property
    def has_room(self) -> bool:
        """True if one more may be on its way. Raises `trio.ClosedResourceError`."""
        if self._closed:
            raise trio.ClosedResourceError(f"{self.spec.name}: its half was closed")
        self._outgoing.update_connections()  # where there is none, a reader may have come
        number = self._counters[SENT] = self._sequence_number  # again, for a broken reader may have written anything
        self._room_until = number - self.waiting + self._window
        if number < self._room_until and not self._outgoing.is_refused:
            return True
        self._room_until = min(self._room_until, number)
        self._outgoing.on_wait()
        return False

    @property
    def has_reader(self) -> bool:
        """True if somebody is at the other end now."""
        return self._counters[READER] != 0 and self._outgoing.has_reader

    @property
    def done(self) -> int:
        """The sequence number up to which the reader is done with all (what an earlier writer left is gone with it)."""
        return self._cursor.acknowledged(self.first, self._sequence_number)

    @property
    def waiting(self) -> int:
        """The number of envelopes sent that the reader is not done with."""
        return self._sequence_number - self.done

    @property
    def acknowledged(self) -> int:
        """Outbound: the sequence number up to which all are acknowledged by the other side, or refused."""
        return self._cursor.acknowledged(self.first, self._sequence_number, ACKNOWLEDGED)

    def note_acknowledged(self, number: int) -> None:
        """Inbound: record that the acknowledgements of all up to this number are about to leave for the other side."""
        self._counters[ACKNOWLEDGED] = number

    def want(self, number: int) -> None:
        """Outbound: have the reader signal `space` for each receipt from this number on; 0 for none."""
        self._counters[WANTED] = self._wanted = number
        if number:
            self._outgoing.on_wait()

    @property
    def is_waited_for(self) -> bool:
        """True if somebody may wait for the reader: for room, for a receipt, or for all to be done with."""
        return self._wanted > 0 or self._is_flushing or self.waiting >= self._window or self._outgoing.is_refused

    def store_again(self) -> None:
        """Store our counts again: a broken peer may have written anything there."""
        counters, number = self._counters, self._sequence_number
        if counters[SENT] != number:
            self._cursor.doubt()
            counters[SENT] = number
            self.ring()
        if self._wanted:
            counters[WANTED] = self._wanted

    def note_opened(self) -> None:
        """Inbound: record where this publisher begins, and what the one before it has acknowledged."""
        # In this order: a reader that looks in between takes too much for acknowledged, rather than too little.
        self._counters[LEFT] = self._counters[ACKNOWLEDGED]
        self._counters[OPENED] = self.first

    def note_forgotten(self) -> None:
        """Inbound: record that the other side sends nothing again under a delivery id that it has used so far."""
        counters, number = self._counters, self._sequence_number
        counters[LEFT] = number + 1
        counters[ACKNOWLEDGED] = counters[OPENED] = number

    async def flush(self) -> None:
        """Wait until everything is acknowledged: what is not when the port closes may never reach anybody."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._is_flushing = True
        try:
            while self.waiting > 0:
                self.store_again()
                self._outgoing.on_wait()
                self.space.clear()
                if self.waiting > 0:
                    await self.space.wait()
        finally:
            self._is_flushing = False
