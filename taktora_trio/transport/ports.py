"""One publisher or subscriber of envelopes: the only code that touches the memory of a sample."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeAlias

import attrs
import iceoryx2 as iox2
import trio

from taktora_trio.channels import Header, Metadata
from taktora_trio.channels.codec import Buffer
from taktora_trio.errors import PayloadOverflow, TransportError
from taktora_trio.transport.attaching import open_notifier, open_publisher, open_subscriber
from taktora_trio.transport.cursor import (
    ACKNOWLEDGED,
    BEGUN,
    DONE,
    INTENDED,
    LEFT,
    OPENED,
    SENT,
    WANTED,
    Cursor,
)
from taktora_trio.transport.envelope import CORRELATION_FIELD, HEADER, unpack
from taktora_trio.transport.openings import Openings
from taktora_trio.transport.pauses import PAUSES, sleep
from taktora_trio.transport.spec import ServiceSpec
from taktora_trio.transport.wakeup import Wakeup, open_wakeup

if TYPE_CHECKING:
    from iceoryx2 import Notifier, PortFactoryPublishSubscribe, Publisher, SampleMutUninit, Subscriber

__all__ = [
    "CHECKPOINT_EVERY",
    "EnvelopePublisher",
    "EnvelopeSubscriber",
    "Loan",
    "Sample",
    "open_envelope_publisher",
    "open_envelope_subscriber",
]


# In a burst, let other tasks run after so many messages; a full checkpoint costs more than a message.
CHECKPOINT_EVERY = 32
_FIRST = 4096  # bytes
_ON_ITS_WAY = 20
"""The number of times to look again for an envelope that is on its way into the history, within 200 ms in all."""
_TOLD_EVERY = 0.001  # seconds

Sample: TypeAlias = iox2.Sample

_START = HEADER.size
_monotonic = time.monotonic
_boottime = functools.partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)


class _Views(dict[int, memoryview]):
    """Views of sample memory, kept by address: making one costs more than the rest of a small message.

    A port's samples live at a fixed set of addresses; a view of one is only used while its sample is held.
    """

    def __init__(self, size: int, samples: int) -> None:
        super().__init__()
        self._array = ctypes.c_ubyte * size
        self._limit = 4 * samples  # a peer that was restarted maps its samples elsewhere

    def __missing__(self, address: int) -> memoryview:
        if len(self) >= self._limit:
            self.clear()
        view = self[address] = memoryview(self._array.from_address(address)).cast("B")
        return view


@attrs.define
class Loan:
    """A sample on loan from shared memory, with its payload still to be written or sent, and what is sent with it."""

    sample: SampleMutUninit
    buffer: memoryview
    length: int
    topic: bytes
    metadata: bytes
    correlation_id: bytes

    @property
    def payload(self) -> memoryview:
        return self.buffer[_START : _START + self.length]


class EnvelopePublisher:
    """Sends envelopes and never waits."""

    def __init__(
        self,
        spec: ServiceSpec,
        service: PortFactoryPublishSubscribe,
        publisher: Publisher,
        notifier: Notifier,
        space: Wakeup,
        cursor: Cursor,
    ) -> None:
        self.spec = spec
        self.space = space
        """Signalled when a reader has made room, and when one has come."""
        self.sent = 0
        self._service = service
        self._publisher = publisher
        self._notifier = notifier
        self._cursor = cursor
        self._counters = cursor.counters
        self._max_payload = spec.max_payload
        self._topic_space = spec.topic_space
        self._metadata_space = spec.metadata_space
        self._window, self._overflow = spec.window, spec.overflow
        self.receipts = cursor.receipts
        """What became of single messages: see `Receipts`."""
        self.first = self._sequence_number = self._room_until = cursor.used()
        """The last sequence number that was used before this port was opened."""
        self._views = _Views(spec.envelope_size, spec.samples)
        self._closed = False

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
        length = len(payload)
        if self._sequence_number >= self._room_until and not self.has_room:
            self._check_size(length, topic, metadata, correlation_id)
            return 0
        sample, buffer = self._lend(length, topic, metadata, correlation_id)
        buffer[_START : _START + length] = payload
        return self._send(sample, buffer, length, topic, metadata, correlation_id, flags)

    def loan(self, length: int, topic: bytes = b"", metadata: bytes = b"", correlation_id: bytes = b"") -> Loan:
        """Return shared memory for a payload of `length` bytes and what goes with it. Raises `PayloadOverflow`."""
        sample, buffer = self._lend(length, topic, metadata, correlation_id)
        return Loan(sample, buffer, length, topic, metadata, correlation_id)

    def send_loan(self, loan: Loan) -> int:
        """Send what was written. Returns its sequence number; 0 if there is no room.

        The loan is then as it was, for another try.
        """
        if not self.has_room:
            return 0
        return self._send(loan.sample, loan.buffer, loan.length, loan.topic, loan.metadata, loan.correlation_id, 0)

    def _lend(
        self, length: int, topic: bytes, metadata: bytes, correlation_id: bytes
    ) -> tuple[SampleMutUninit, memoryview]:
        if length > self._max_payload or topic or metadata or correlation_id:
            self._check_size(length, topic, metadata, correlation_id)
        try:
            sample = self._publisher.loan_uninit()
        except iox2.LoanError as exc:
            raise TransportError(
                f"no more loans from {self.spec.name} ({exc}): end the loan() that is open before the next"
            ) from exc
        return sample, self._views[sample.payload_ptr]

    def _check_size(self, length: int, topic: bytes, metadata: bytes, correlation_id: bytes) -> None:
        beside = len(metadata) + max(0, len(correlation_id) - CORRELATION_FIELD)
        if length > self._max_payload or len(topic) > self._topic_space or beside > self._metadata_space:
            raise PayloadOverflow(
                f"a payload of {length} bytes, a topic of {len(topic)} and metadata of {beside} (with what a"
                f" correlation id of {len(correlation_id)} has beyond {CORRELATION_FIELD}), where"
                f" {self.spec.name} takes {self._max_payload}, {self._topic_space} and {self._metadata_space}:"
                " send less, or raise its max_payload, max_topic or max_metadata"
            )

    def _send(
        self,
        sample: SampleMutUninit,
        buffer: memoryview,
        length: int,
        topic: bytes,
        metadata: bytes,
        correlation_id: bytes,
        flags: int,
    ) -> int:
        number, now, boottime = self._sequence_number + 1, time.time_ns(), _boottime()
        self._counters[INTENDED] = number  # if we are killed behind the next lines, nobody knows whether it was sent
        if topic or metadata or correlation_id:
            id_length = len(correlation_id)
            HEADER.pack_into(
                buffer, 0, number, now, boottime, length, len(topic), len(metadata), flags, id_length, correlation_id
            )
            beside = topic + metadata + correlation_id[CORRELATION_FIELD:]
            end = _START + length
            buffer[end : end + len(beside)] = beside
        else:
            HEADER.pack_into(buffer, 0, number, now, boottime, length, 0, 0, flags, 0, b"")
        sample.assume_init().send()  # to the history alone, where nobody is there now
        self.sent += 1
        self._sequence_number = self._counters[SENT] = number
        self._notifier.notify()  # 0.1 us while the reader is awake, so always: a lost wake-up would cost far more
        return number

    @property
    def last_sent(self) -> int:
        """The sequence number of the last envelope that was sent; 0 if there is none."""
        return self._sequence_number

    @property
    def has_room(self) -> bool:
        """True if one more may be on its way.

        The window is no larger than the history and the reader's buffer, so whatever is sent within it can neither be
        refused by the one nor fall out of the other before it is acknowledged.
        """
        number = self._sequence_number
        self._room_until = number + 1 if self._overflow else number - self.waiting + self._window
        return number < self._room_until

    @property
    def has_reader(self) -> bool:
        """True if somebody is at the other end now."""
        return bool(self._service.dynamic_config.number_of_subscribers)

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
        self._counters[WANTED] = number

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
        while self.waiting > 0:
            self.space.clear()
            if self.waiting > 0:
                await self.space.wait()

    def update_connections(self) -> None:
        """Look for new subscribers now, and give them the history, instead of at the next send."""
        self._publisher.update_connections()
        self._notifier.notify()  # who has come may be asleep already

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.space.close()
            self._notifier.delete()
            self._publisher.delete()
            # As long as anybody refers to it, the service counts our node; and a traceback may refer to us.
            del self._service
            self._cursor.close()


class EnvelopeSubscriber:
    """Receives envelopes and never waits."""

    def __init__(
        self, spec: ServiceSpec, subscriber: Subscriber, space: Notifier, data: Wakeup, cursor: Cursor
    ) -> None:
        self.spec = spec
        self.data = data
        """Signalled when something was sent."""
        self.received = 0
        self.begun_before = cursor.begun()
        """The sequence number of the last envelope that a subscriber before this one has begun to pass on."""
        self.take = subscriber.receive
        """The next sample, or `None`. Hand it to `open`, then call its `delete`."""
        self.epoch = cursor.epoch
        """See `Cursor.epoch`."""
        self.attach = subscriber.has_samples
        """Attach to a writer that has come: as `take` does, which takes an envelope, too."""
        self._last = 0
        self._subscriber = subscriber
        self._space = space
        self._cursor = cursor
        self._counters = cursor.counters
        self._notified_at = self._counters[DONE]
        self._notify_after = 0.0
        self._openings = Openings()
        self._release_to = 0
        self._window = spec.window
        self._batch = max(1, spec.window // 2)
        self._max_payload = spec.max_payload
        self._topic_space = spec.topic_space
        self._metadata_space = spec.metadata_space
        self._views = _Views(spec.envelope_size, spec.samples)
        self._closed = False

    def open(self, sample: Sample, *, acknowledge: bool = False) -> tuple[Header, memoryview, str, Metadata | None]:
        """Return header, payload (a view that is valid until the sample is deleted), topic, metadata.

        Raises `TransportError`.
        """
        self.received += 1
        try:
            opened = unpack(self._views[sample.payload_ptr], self._max_payload, self._topic_space, self._metadata_space)
        except TransportError:
            self._pass_over(acknowledge=acknowledge)
            raise
        self._last = number = opened[0].sequence_number
        if acknowledge:
            self.acknowledge(number)
        elif self._release_to:
            self.release(self._release_to)
        return opened

    def first_bytes(self, sample: Sample) -> memoryview:
        """Return the beginning of an envelope as it lies in memory, for one that can't be opened."""
        return self._views[sample.payload_ptr][:_FIRST]

    def _pass_over(self, *, acknowledge: bool) -> None:
        """Count an envelope whose number can't be read: else it would take up the window for good."""
        number = min(max(self._last, self._counters[DONE]) + 1, self._counters[SENT])
        if number > self._counters[DONE]:
            self._last = number
            if acknowledge:
                self.acknowledge(number)

    @property
    def last_opened(self) -> int:
        """The sequence number of the envelope that was opened last, as far as it could be read."""
        return self._last

    @property
    def receipts_through(self) -> int:
        """The number up to which all were acknowledged by the other side."""
        return min(self._counters[ACKNOWLEDGED], self._counters[SENT])

    @property
    def released(self) -> int:
        """The number up to which all are acknowledged, as `acknowledge` does it."""
        return self._counters[DONE]

    @property
    def is_behind(self) -> bool:
        """True if something was sent that has not been received yet."""
        return 0 < self._counters[SENT] - max(self._last, self._counters[DONE]) <= self._window

    @property
    def unacknowledged(self) -> int:
        """The number of envelopes sent and not acknowledged."""
        return self._cursor.not_acknowledged(self._window)

    @property
    def has_writer(self) -> bool:
        """True if somebody is at the other end. Asking wakes them."""
        return bool(self._space.notify())

    # Inbound

    @property
    def resumes_behind(self) -> int:
        """The number up to which an earlier reader's app was done with all; 0 if it can't be believed."""
        done = self._counters[DONE]
        return done if done <= self.last_used else 0

    @property
    def last_used(self) -> int:
        """The last sequence number that may have been sent."""
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
        self._counters[DONE] = sequence_number
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

    # Outbound

    def begin(self, sequence_number: int) -> None:
        """Record that this envelope is about to be passed on: see `begun_before`."""
        self._counters[BEGUN] = sequence_number

    def acknowledge(self, sequence_number: int) -> None:
        """Release this envelope and all before it. It makes room, and a later reader goes on behind it."""
        self._counters[DONE] = sequence_number
        # A writer that waits for room is woken once per half a window, and when all is done: not per message.
        if sequence_number - self._notified_at >= self._batch or sequence_number == self._counters[SENT]:
            self.wake_writer()

    def release(self, sequence_number: int) -> None:
        """Release this envelope and all before it, and wake a writer that waits for just that."""
        sequence_number = self._opened_of(sequence_number)
        if sequence_number <= self._counters[DONE]:
            return
        self.acknowledge(sequence_number)
        if 0 < self._counters[WANTED] <= sequence_number:
            self.wake_writer()

    def acknowledge_receipt(self, sequence_number: int) -> None:
        """Count this envelope and all before it as acknowledged by the other side, and release them.

        A writer that waits for room is woken as by `acknowledge`, and one that waits for this receipt at once.
        """
        counters = self._counters
        counters[ACKNOWLEDGED] = sequence_number  # first: behind the other one nobody would say it any more
        if sequence_number > counters[DONE]:
            counters[DONE] = max(self._opened_of(sequence_number), counters[DONE])
        if (
            sequence_number - self._notified_at >= self._batch
            or sequence_number == counters[SENT]
            or 0 < counters[WANTED] <= sequence_number
        ):
            self.wake_writer()

    def _opened_of(self, sequence_number: int) -> int:
        """Return up to where may be released now; the rest follows as it is opened.

        What an earlier gateway has stored is in our buffer, too, or about to come there. If it made room for its writer
        before it is out, what the writer sends then would find the buffer full, and be lost.
        """
        if sequence_number <= self._last or not self.has_writer:
            self._release_to = 0
            return sequence_number
        self._release_to = max(self._release_to, sequence_number)
        return self._last

    def settle(self, sequence_number: int, refusal: str) -> None:
        """Record what became of this envelope alone: see `Receipts.settle`."""
        self._cursor.receipts.settle(sequence_number, refusal)
        if self._counters[WANTED]:
            self._space.notify()

    def reopen_receipts(self) -> None:
        """Forget what an earlier reader has learned of envelopes that come again."""
        self._cursor.receipts.reopen(max(self._counters[DONE], self._counters[ACKNOWLEDGED]))

    def wake_writer(self) -> None:
        """Wake a writer that waits for room, or for somebody to come."""
        self._notified_at = self._counters[DONE]
        self._space.notify()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.data.close()
            self._space.delete()
            self._subscriber.delete()
            self._cursor.close()


@contextlib.asynccontextmanager
async def open_envelope_publisher(node: iox2.Node, spec: ServiceSpec) -> AsyncIterator[EnvelopePublisher]:
    async with contextlib.AsyncExitStack() as stack:
        # Explicitly deleted: a traceback that still refers to a port would keep its only place occupied.
        space = await open_wakeup(node, spec.space_name)
        stack.callback(space.close)
        notifier = await open_notifier(node, spec.event_name)
        stack.callback(notifier.delete)
        cursor = Cursor(node, spec)
        stack.callback(cursor.close)
        notifier.notify()  # a reader lets go of the memory of the writer before, which may be what we need
        service, publisher = await open_publisher(node, spec)
        port = EnvelopePublisher(spec, service, publisher, notifier, space, cursor)
        stack.pop_all()
    try:
        yield port
    finally:
        port.close()


@contextlib.asynccontextmanager
async def open_envelope_subscriber(node: iox2.Node, spec: ServiceSpec) -> AsyncIterator[EnvelopeSubscriber]:
    async with contextlib.AsyncExitStack() as stack:
        data = await open_wakeup(node, spec.event_name)
        stack.callback(data.close)
        space = await open_notifier(node, spec.space_name)
        stack.callback(space.delete)
        cursor = Cursor(node, spec)
        stack.callback(cursor.close)
        port = EnvelopeSubscriber(spec, await _resume(node, spec, cursor), space, data, cursor)
        stack.pop_all()
    try:
        port.wake_writer()
        yield port
    finally:
        port.close()


async def _resume(node: iox2.Node, spec: ServiceSpec, cursor: Cursor) -> Subscriber:
    """Attach so that the first envelope to come is the first that nobody has acknowledged."""
    if spec.overflow:
        return await open_subscriber(node, spec, spec.history)
    # An envelope that reaches the history after it was counted here would push the oldest one out of what we ask for.
    # So none may be on its way there when we ask, and none may set out until we are attached: a writer says it before
    # (INTENDED) and behind (SENT). That comes to be: one whose envelopes nobody takes has soon used up its window, and
    # one that was killed on the way adds no more to that history.
    counters, pauses, waits = cursor.counters, PAUSES.delays(), _ON_ITS_WAY
    for _ in range(spec.window + _ON_ITS_WAY):
        sent, intended = counters[SENT], counters[INTENDED]
        if intended > sent and waits:
            waits -= 1
            await sleep(next(pauses))
            continue
        subscriber = await open_subscriber(node, spec, cursor.not_acknowledged(spec.history))
        if (counters[SENT], counters[INTENDED]) == (sent, intended):
            return subscriber
        subscriber.delete()
    cursor.doubt()
    return await open_subscriber(node, spec, spec.history)
