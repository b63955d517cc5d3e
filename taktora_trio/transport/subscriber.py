"""EnvelopeSubscriber: the reading end of a channel, the only code that reads envelopes in shared memory.

The writer, on the other side, may be broken, or be another program: nothing that is read is followed unchecked.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from taktora_trio.boottime import clock_of_run, machine_clock
from taktora_trio.channels import Header, Metadata
from taktora_trio.errors import TransportError
from taktora_trio.transport.cursor import (
    ACKNOWLEDGED,
    BEGUN,
    DONE,
    LEFT,
    LIMIT,
    OPENED,
    READER,
    SENT,
    WANTED,
    Cursor,
    lost_counters,
)
from taktora_trio.transport.envelope import sent_at, unpack
from taktora_trio.transport.fence import NEEDS_FENCE, fence
from taktora_trio.transport.openings import Openings
from taktora_trio.transport.ring import Rings
from taktora_trio.transport.spec import KEPT_WRITERS, ChannelSpec

if TYPE_CHECKING:
    from taktora_trio.transport.bell import Wakeup
    from taktora_trio.transport.incoming import Incoming

__all__ = ["EnvelopeSubscriber", "NotSent"]

log = logging.getLogger(__name__)

_FIRST = 4096  # bytes
_TOLD_EVERY = 0.001  # seconds
_NOWHERE = -1
_LOOKS = KEPT_WRITERS + 16  # in one go: a broken writer may change all that is looked at, all the time
_monotonic = time.monotonic


def _do_nothing() -> None: ...


class NotSent(TransportError):
    """An envelope was counted as sent, and is not there. It is not taken: it may be sent yet."""


class EnvelopeSubscriber:
    """Receives envelopes and never waits. `Trunk.open_subscriber` opens it.

    An envelope is taken, then opened, and stays where it lies until it is released: by `acknowledge`, `done_with` or
    `release`. Then its writer may use the slot again.
    """

    def __init__(
        self, spec: ChannelSpec, incoming: Incoming, cursor: Cursor, ring: Callable[[], int], data: Wakeup
    ) -> None:
        self.spec = spec
        self.data = data
        """Woken when something was sent."""
        self.received = 0
        self.begun_before = cursor.begun()
        """The sequence number of the last envelope that a subscriber before this one has begun to pass on."""
        self.epoch = cursor.epoch
        """See `Cursor.epoch`."""
        self.taken = 0
        """The sequence number of the envelope that was taken last."""
        self.leaving: Callable[[], None] = _do_nothing
        """Called when what one writer has sent is taken, and its memory is about to be let go of."""
        self.is_timed = False
        """True where the next message that its writer is told of is to be timed: `latency`."""
        self.latency: float | None = None
        """Seconds that it took from its sending to its being done with."""
        self._incoming = incoming
        self.ring = ring
        """Rings the channel in the other half."""
        self._cursor = cursor
        self._counters = cursor.counters
        self._writer = incoming.generation
        self._window, self._slots, self._size = spec.window, spec.slots, spec.envelope_size
        self._max_payload = spec.max_payload
        self._topic_space = spec.topic_space
        self._metadata_space = spec.metadata_space
        self._rings: Rings | None = None
        self._entered = 0  # the generation of the rings that are read, or were last
        self._newer = deque[Rings]()  # each is read when the one before it is
        self._memory = self._table = memoryview(b"")
        self._slots_at = self._until = 0
        self._refuted = 0  # what `counters[SENT]` said when that was not true, as it seemed
        self._confirmed = 0  # what the writer has said again: the envelope is there, but can't be read
        self._done = self.resumes_behind  # as `counters[DONE]`, outbound, where a broken writer may write too
        self._acknowledged = 0  # as `counters[ACKNOWLEDGED]`, outbound
        self._pinned: list[int] = []
        self._held_back = 0
        self._notified_at = self._counters[DONE]
        self._notify_after = 0.0
        self._batch = max(1, spec.window // 2)
        self._openings = Openings()
        self._boottime = clock_of_run() if spec.direction == "out" else machine_clock  # as its writer has it
        self._closed = False
        self._counters[READER] = 1
        incoming.add(self)
        self._look()

    # What comes

    def take(self) -> int | None:
        """Take the next envelope: return where it is, for `open`. `None` if there is none."""
        number = self.taken + 1
        if number > self._until:
            if not self._look():
                return None
            number = self.taken + 1
        self.taken = number
        slot = self._table[number % self._window]
        return self._slots_at + slot * self._size if slot < self._slots else _NOWHERE

    def open(self, at: int) -> tuple[Header, memoryview, str, Metadata | None]:
        """Return header, payload (a view that is valid until the envelope is released), topic, metadata.

        Raises `TransportError`; the envelope is taken all the same, and its number is `taken`. Raises `NotSent` if it
        is not there, and then it is not taken.
        """
        self.received += 1
        if at < 0:
            raise TransportError(f"an envelope is in a slot beyond the {self._slots} there are; it was discarded")
        try:
            opened = unpack(self._memory, self._max_payload, self._topic_space, self._metadata_space, at)
        except TransportError:
            if self._number_at(at) == 0:  # nothing was ever in this slot
                self._check_sent(at)
            raise
        if opened[0].sequence_number != self.taken:
            self._check_sent(at)
            raise TransportError(
                f"an envelope has the number {opened[0].sequence_number}, where {self.taken} was expected; it was"
                " discarded: is another program writing to this channel?"
            )
        return opened

    def _check_sent(self, at: int) -> None:
        """Raise `NotSent` if the writer's count was written over: in the slot is still what was there before."""
        number = self.taken
        sent = self._counters[SENT]
        if self._number_at(at) < number and sent != self._confirmed and not self._is_there(sent):
            self.received -= 1
            self.taken = self._until = number - 1
            self._refuted = sent
            self._cursor.doubt()
            self._incoming.on_doubt()
            raise NotSent(f"an envelope with the number {number} was counted as sent, and is not there")

    def _is_there(self, number: int) -> bool:
        """True if the envelope with this number is in its slot, so that it was sent, whatever the counts say."""
        slot = self._table[number % self._window]
        return slot < self._slots and self._number_at(self._slots_at + slot * self._size) == number

    def _number_at(self, at: int) -> int:
        return int.from_bytes(self._memory[at : at + 8], "little")

    def first_bytes(self, at: int) -> memoryview:
        """Return the beginning of an envelope as it lies in memory, for one that can't be opened."""
        return self._memory[at : at + min(_FIRST, self._size)] if at >= 0 else memoryview(b"")

    def pin(self) -> Callable[[], None]:
        """Keep the envelope that was taken last where it is, also when it is released. Returns what ends that."""
        number, rings = self.taken, self._rings
        assert rings is not None
        rings.hold()
        self._pinned.append(number)

        def unpin() -> None:
            self._pinned.remove(number)
            rings.let_go()
            held_back, self._held_back = self._held_back, 0
            if held_back and not self._closed:
                self.acknowledge(held_back)

        return unpin

    def attach(self) -> None:
        """Attach to a writer that has come: its memory is ours then, even if it is killed. Takes nothing."""
        if self._rings is None or self._writer[0] != self._rings.generation:
            self._incoming.renew()

    def _look(self) -> bool:
        """Look how far may be read, and go over to another writer's ring; return whether there is something.

        Raises `trio.ClosedResourceError`.
        """
        if self._closed:
            raise trio.ClosedResourceError(f"{self.spec.name}: its half was closed")
        for _ in range(_LOOKS):
            sent = self._counters[SENT]
            if NEEDS_FENCE:
                fence()
            writer, rings = self._writer[0], self._rings  # in this order: a writer says first that it is there
            if rings is not None and writer == rings.generation and not self._newer:
                return self._may_read_to(sent)
            self._incoming.renew()
            if rings is not None and self._newer:  # this one ends where the next one begins
                if self._may_read_to(self._newer[0].first(self._newer[0].places[self.spec.name]), certain=False):
                    return True
                self._leave()
            if self._rings is None:
                if not self._newer:
                    if sent != self.taken:
                        self._incoming.on_doubt()
                    return False
                self._enter(self._newer.popleft())
                continue
            if writer != 0:
                self._incoming.on_doubt()
                return False
            if sent != self._counters[SENT]:
                continue  # by the writer before, just before it was gone
            if self._may_read_to(sent, certain=False):
                return True
            self._incoming.forget(self._rings)  # another writer is about to come, and may need the memory
            self._leave()
            return False
        return False

    def _may_read_to(self, sent: int, *, certain: bool = True) -> bool:
        """Note that envelopes up to this number may be read, if that can be; return whether there are any."""
        behind = sent - self.taken
        if 0 < behind <= self._window:
            if sent == self._refuted != self._confirmed and not self._is_there(sent):
                return False
            self._until = sent
            return True
        if behind and certain:
            self._cursor.doubt()
            self._incoming.on_doubt()
            if self._window < behind and sent <= LIMIT and self._is_there(sent):
                over = "%s: %d messages were written over before they were read: what is done with was counted wrongly"
                log.error(
                    over,
                    self.spec.name,
                    behind - self._window,
                    extra={"event": "messages-overwritten", "service": self.spec.name},
                )
                self.taken, self._until = sent - self._window, sent
                return True
        return False

    def _enter(self, rings: Rings) -> None:
        """Read this one from now on: behind what is done with already."""
        place = rings.places[self.spec.name]
        is_new, self._entered = rings.generation != self._entered, rings.generation
        self._rings, self._memory, self._slots_at = rings, rings.memory, place.slots_at
        self._table = rings.table(place, self._window)
        first, last = rings.first(place), self._cursor.used()
        if self._counters[DONE] > last:  # which can't be, but there is never more than a window to be done with
            first = max(first, last - self._window)
        if is_new:  # else it was let go of, since somebody said that its writer is gone
            self.taken = self._until = self._cursor.acknowledged(first, last)

    def _leave(self) -> None:
        if self._rings is not None:
            self.leaving()
            rings, self._rings = self._rings, None
            self._memory = self._table = memoryview(b"")
            rings.let_go()

    def look(self) -> None:
        """Let go of the memory of a writer that is gone, if all of it was taken."""
        if self.taken >= self._until:
            self._look()

    def store_again(self) -> None:
        """Store our counts again: a broken peer may have written anything there."""
        counters = self._counters
        counters[READER] = 1
        if counters[DONE] != self._done or counters[ACKNOWLEDGED] < self._acknowledged:
            self._cursor.doubt(self._done)
            counters[DONE] = self._done
            counters[ACKNOWLEDGED] = max(counters[ACKNOWLEDGED], self._acknowledged)
            self.ring()  # who waits for them looks again

    @property
    def is_disputed(self) -> bool:
        """True if the writer's count says that there is an envelope which is not there."""
        return self._refuted != 0 and self._refuted != self._confirmed and self._counters[SENT] == self._refuted

    def confirm(self) -> None:
        """Believe what the writer has said again: what can't be read then is discarded."""
        if self.is_disputed:
            self._confirmed = self._refuted
            self.data.wake()

    def renewed(self, rings: Rings) -> None:
        """Another writer's rings have come."""
        if self._rings is None or self._rings.generation != rings.generation:
            rings.hold()
            self._newer.append(rings)

    # What is known

    @property
    def receipts_through(self) -> int:
        """The number up to which all were acknowledged by the other side."""
        return min(self._counters[ACKNOWLEDGED], self._counters[SENT])

    @property
    def released(self) -> int:
        """The number up to which all are released."""
        return self._counters[DONE]

    @property
    def done(self) -> int:
        """The number up to which all were released here, or before."""
        return self._done

    @property
    def is_behind(self) -> bool:
        """True if something was sent that has not been received yet."""
        return 0 < self._counters[SENT] - max(self.taken, self._done) <= self._window

    @property
    def unacknowledged(self) -> int:
        """The number of envelopes sent and not acknowledged."""
        return self._cursor.not_acknowledged(self._window)

    @property
    def has_writer(self) -> bool:
        """True if the other half is there. Asking wakes it."""
        return bool(self.ring())

    # Inbound

    @property
    def resumes_behind(self) -> int:
        """The number up to which an earlier reader's app was done with all; 0 if it can't be believed."""
        done = self._counters[DONE]
        return done if done <= self.last_used else 0

    @property
    def last_used(self) -> int:
        """The last sequence number that was sent."""
        return self._cursor.used()

    def may_come_again(self, sequence_number: int) -> bool:
        """True unless the acknowledgement of this envelope may have left: then its delivery id may be another's."""
        counters = self._counters
        opened = counters[OPENED]  # in this order: it is written last
        return self._openings.may_come_again(sequence_number, opened, counters[LEFT], counters[ACKNOWLEDGED])

    def acknowledged_bounds(self) -> tuple[int, int]:
        """Return two numbers: of the envelopes behind the first, those up to the second may have been acknowledged."""
        return self._counters[OPENED], self._counters[ACKNOWLEDGED]

    def done_with(self, sequence_number: int) -> bool:
        """Release this envelope and all before it, since the app is done with them.

        The gateway, which acknowledges them, is woken for each half a window, and else once in a millisecond at most;
        then this returns true. `tell_done` does the rest when nothing comes any more.
        """
        if self._pinned:
            sequence_number = self._not_pinned(sequence_number)
        if NEEDS_FENCE:
            fence()
        self._counters[DONE] = self._done = sequence_number
        if sequence_number - self._notified_at >= self._batch or _monotonic() > self._notify_after:
            self._notify_after = _monotonic() + _TOLD_EVERY
            self.wake_writer()
            return True
        return False

    def tell_done(self) -> bool:
        """Wake the gateway if there is something that it has not been woken for; return whether there was."""
        if self._notified_at == self._counters[DONE]:
            return False
        self.wake_writer()
        return True

    def _not_pinned(self, sequence_number: int) -> int:
        """Return up to where may be released now; the rest follows."""
        first = min(self._pinned)
        if sequence_number < first:
            return sequence_number
        self._held_back = sequence_number
        return min(max(self._counters[DONE], first - 1), sequence_number)

    # Outbound

    def begin(self, sequence_number: int) -> None:
        """Record that this envelope is about to be passed on: see `begun_before`."""
        self._counters[BEGUN] = sequence_number

    def acknowledge(self, sequence_number: int) -> None:
        """Release this envelope and all before it. It makes room, and a later reader goes on behind it."""
        if self._pinned:
            sequence_number = self._not_pinned(sequence_number)
        if NEEDS_FENCE:
            fence()
        self._counters[DONE] = self._done = sequence_number
        # A writer that waits for room is woken once per half a window, so that both work at once, and when all is done.
        if sequence_number - self._notified_at >= self._batch or sequence_number == self._counters[SENT]:
            self.wake_writer()

    def release(self, sequence_number: int) -> None:
        """Release this envelope and all before it, and wake a writer that waits for just that.

        Those that were not taken yet never are: somebody has them already.
        """
        sequence_number = self._skipped_to(sequence_number)
        if sequence_number <= self._done:
            return
        self.acknowledge(sequence_number)
        if 0 < self._counters[WANTED] <= sequence_number:
            self.wake_writer()

    def acknowledge_receipt(self, sequence_number: int) -> None:
        """Count this envelope and all before it as acknowledged by the other side, and release them.

        A writer that waits for room is woken as by `acknowledge`, and one that waits for this receipt at once.
        """
        counters = self._counters
        if sequence_number > self.taken:
            sequence_number = self._skipped_to(sequence_number)
        if NEEDS_FENCE:
            fence()
        # First this one: behind the other nobody would say it any more.
        counters[ACKNOWLEDGED] = self._acknowledged = sequence_number
        if sequence_number > self._done:
            counters[DONE] = self._done = sequence_number
        if (
            sequence_number - self._notified_at >= self._batch
            or sequence_number == counters[SENT]
            or 0 < counters[WANTED] <= sequence_number
        ):
            self.wake_writer()

    def _skipped_to(self, sequence_number: int) -> int:
        """Take nothing up to this number any more; it is no more than what was sent."""
        sequence_number = min(sequence_number, self._cursor.used())
        self.taken = max(self.taken, sequence_number)
        return sequence_number

    def settle(self, sequence_number: int, refusal: str) -> None:
        """Record what became of this envelope alone: see `Receipts.settle`."""
        self._cursor.receipts.settle(sequence_number, refusal)
        if self._counters[WANTED]:
            self.ring()

    def reopen_receipts(self) -> None:
        """Forget what an earlier reader has learned of envelopes that come again."""
        self._cursor.receipts.reopen(max(self._counters[DONE], self._counters[ACKNOWLEDGED]))

    def wake_writer(self) -> None:
        """Wake a writer that waits for room, or for somebody to come."""
        self._notified_at = done = self._counters[DONE]
        if self.is_timed and (age := self.age_of(done)) is not None:
            self.is_timed = False
            self.latency = age
        self.ring()

    def age_of(self, number: int) -> float | None:
        """Return the seconds since this envelope was sent; `None` if it is not there now."""
        if self._rings is None or number < 1:
            return None
        slot = self._table[number % self._window]
        if slot >= self._slots:
            return None
        sent = sent_at(self._memory, self._slots_at + slot * self._size, number)
        return None if sent is None else max(0, self._boottime() - sent) / 1e9

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.data.close()
            self._incoming.remove(self)
            self._leave()
            while self._newer:
                self._newer.popleft().let_go()
            self._counters[READER] = 0
            self._counters = lost_counters()  # who has this end may close it later than its half
            self._writer = self._counters[:1]
            self._until = 0
