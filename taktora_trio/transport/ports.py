"""One publisher or subscriber of envelopes: the only code that touches the memory of a sample."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import attrs
import iceoryx2 as iox2
import trio

from taktora_trio.channel import Header
from taktora_trio.codec import Buffer
from taktora_trio.errors import PayloadOverflow, TransportError
from taktora_trio.transport.cursor import Cursor
from taktora_trio.transport.envelope import HEADER, NO_CORRELATION_ID, unpack
from taktora_trio.transport.services import ServiceSpec, open_notifier, open_publisher, open_subscriber
from taktora_trio.transport.wakeup import Wakeup, open_wakeup

if TYPE_CHECKING:
    from iceoryx2 import Notifier, PortFactoryPublishSubscribe, Publisher, Sample, SampleMutUninit, Subscriber

__all__ = [
    "CHECKPOINT_EVERY",
    "EnvelopePublisher",
    "EnvelopeSubscriber",
    "Loan",
    "open_envelope_publisher",
    "open_envelope_subscriber",
]


# In a burst, let other tasks run after so many messages; a full checkpoint costs more than a message.
CHECKPOINT_EVERY = 32

_START = HEADER.size


class _Views:
    """Views of sample memory, kept by address: making one costs more than the rest of a small message.

    A port's samples live at a fixed set of addresses; a view of one is only used while its sample is held.
    """

    def __init__(self, size: int, samples: int) -> None:
        self._array = ctypes.c_ubyte * size
        self._limit = 4 * samples  # a peer that was restarted maps its samples elsewhere
        self._views: dict[int, memoryview] = {}

    def at(self, address: int) -> memoryview:
        view = self._views.get(address)
        if view is None:
            if len(self._views) >= self._limit:
                self._views.clear()
            view = self._views[address] = memoryview(self._array.from_address(address)).cast("B")
        return view


@attrs.define
class Loan:
    """A sample on loan from shared memory, with its payload still to be written or sent."""

    sample: SampleMutUninit
    buffer: memoryview
    length: int

    @property
    def payload(self) -> memoryview:
        return self.buffer[_START : _START + self.length]


class EnvelopePublisher:
    """Sends envelopes, without ever waiting."""

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
        self._max_payload = spec.max_payload
        self._topic_space = spec.topic_space
        self._sequence_number = cursor.sent
        self._views = _Views(spec.envelope_size, spec.samples)
        self._closed = False

    def send(self, payload: Buffer, correlation_id: bytes = NO_CORRELATION_ID, topic: bytes = b"") -> bool:
        """Copy the payload into shared memory and send it; `False`, and nothing sent, if nobody has room for it.

        Raises `PayloadOverflow`.
        """
        length = len(payload)
        sample, buffer = self._lend(length, len(topic))
        buffer[_START : _START + length] = payload
        return self._send(sample, buffer, length, correlation_id, topic)

    def loan(self, length: int, topic_length: int = 0) -> Loan:
        """Shared memory for a payload of `length` bytes. Raises `PayloadOverflow`."""
        sample, buffer = self._lend(length, topic_length)
        return Loan(sample, buffer, length)

    def send_loan(self, loan: Loan, correlation_id: bytes = NO_CORRELATION_ID, topic: bytes = b"") -> bool:
        """Send what was written; `False` if nobody has room, and then `loan` holds the same payload for another try."""
        if self._send(loan.sample, loan.buffer, loan.length, correlation_id, topic):
            return True
        # The refused sample went back to the pool with its bytes unchanged, and nobody else takes from this pool:
        # loan again, usually the same memory, and copy only if it is not.
        sample, buffer = self._lend(loan.length, len(topic))
        if buffer is not loan.buffer:
            buffer[_START : _START + loan.length] = loan.payload
        loan.sample, loan.buffer = sample, buffer
        return False

    def _lend(self, length: int, topic_length: int) -> tuple[SampleMutUninit, memoryview]:
        if length > self._max_payload or topic_length > self._topic_space:
            raise PayloadOverflow(
                f"a payload of {length} bytes and a topic of {topic_length}, where {self.spec.name} takes"
                f" {self._max_payload} and {self._topic_space}: send less, or raise the channel's max_payload or max_topic"
            )
        try:
            sample = self._publisher.loan_uninit()
        except iox2.LoanError as exc:
            raise TransportError(
                f"no more loans from {self.spec.name} ({exc}): end the loan() that is open before the next"
            ) from exc
        return sample, self._views.at(sample.payload_ptr)

    def _send(
        self, sample: SampleMutUninit, buffer: memoryview, length: int, correlation_id: bytes, topic: bytes
    ) -> bool:
        number = self._sequence_number + 1
        HEADER.pack_into(buffer, 0, number, time.time_ns(), length, len(topic), correlation_id)
        if topic:
            buffer[_START + length : _START + length + len(topic)] = topic
        if not sample.assume_init().send():
            return False
        self.sent += 1
        self._sequence_number = self._cursor.sent = number
        self._notifier.notify()  # 0.1 us while the reader is awake, so always: a lost wake-up would cost far more
        return True

    @property
    def has_reader(self) -> bool:
        """Whether somebody is at the other end, so that a refused envelope means a full buffer."""
        return bool(self._service.dynamic_config.number_of_subscribers)

    @property
    def waiting(self) -> int:
        """How many envelopes were sent and not taken yet."""
        return self._sequence_number - self._cursor.taken

    async def flush(self) -> None:
        """Wait until the reader has taken everything: what it has not when the port closes may never reach it."""
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
            self._cursor.close()


class EnvelopeSubscriber:
    """Receives envelopes, without ever waiting."""

    def __init__(
        self, spec: ServiceSpec, subscriber: Subscriber, space: Notifier, data: Wakeup, cursor: Cursor
    ) -> None:
        self.spec = spec
        self.data = data
        """Signalled when something was sent."""
        self.received = 0
        self._subscriber = subscriber
        self._space = space
        self._cursor = cursor
        self._taken = 0
        self._batch = max(1, spec.window // 2)
        self._views = _Views(spec.envelope_size, spec.samples)
        self._closed = False

    def take(self) -> Sample | None:
        """The next sample, or `None`. Hand it to `open`, then call its `delete`."""
        sample = self._subscriber.receive()
        # A writer that waits for room is told once per half a window, and when all is taken: not per message.
        if sample is None:
            if self._taken:
                self._taken = 0
                self._space.notify()
            return None
        self._taken += 1
        if self._taken >= self._batch:
            self._taken = 0
            self._space.notify()
        return sample

    def open(self, sample: Sample) -> tuple[Header, memoryview, str]:
        """Header, payload (a view that is valid until the sample is deleted) and topic. Raises `TransportError`."""
        opened = unpack(self._views.at(sample.payload_ptr), self.spec.max_payload, self.spec.topic_space)
        self.received += 1
        self._cursor.taken = opened[0].sequence_number
        return opened

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
        service, publisher = await open_publisher(node, spec)
        port = EnvelopePublisher(spec, service, publisher, notifier, space, Cursor(node, spec.name))
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
        subscriber = await open_subscriber(node, spec)
        port = EnvelopeSubscriber(spec, subscriber, space, data, Cursor(node, spec.name))
        stack.pop_all()
    try:
        space.notify()  # a writer may be waiting for somebody to come
        yield port
    finally:
        port.close()
