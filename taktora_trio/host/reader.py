"""ChannelReader: the app's end of an inbound channel, a trio `ReceiveChannel`."""

from __future__ import annotations

import bisect
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

import attrs
import trio

from taktora_trio.channels import ChannelDescriptor, Inbound, Received, Routing
from taktora_trio.channels.codec import Buffer, PayloadCodec
from taktora_trio.checks import is_async_function
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.plan import channel_spec
from taktora_trio.errors import ConfigError, MessageError, TransportError, summary
from taktora_trio.host.handover import Handover, is_failure, resume
from taktora_trio.host.in_hand import InHand
from taktora_trio.host.rejected import OnError, Rejected, Unreadable
from taktora_trio.host.taken import Taken
from taktora_trio.opening import NoPublicConstructor
from taktora_trio.transport.deliveries import Deliveries
from taktora_trio.transport.publisher import CHECKPOINT_EVERY
from taktora_trio.transport.subscriber import EnvelopeSubscriber, NotSent
from taktora_trio.transport.trunk import Trunk

__all__ = ["ChannelReader", "OnError", "ReaderStatistics", "open_reader"]

T = TypeVar("T")
log = logging.getLogger(__name__)


@attrs.frozen
class ReaderStatistics:
    """Counts since the reader was opened."""

    received: int
    """Messages that the app was given."""
    rejected: int
    """Messages that could not be read."""
    redelivered: int = 0
    """Of those received, the ones that the app was given before, by this reader or by one before it."""
    dead: int = 0
    """Messages that were given up, and go to the dead letters."""


class ChannelReader(
    trio.abc.ReceiveChannel[Received[T]], metaclass=NoPublicConstructor, opened_by="host.open_reader(channel)"
):
    """Receives messages of one type. Use `host.open_reader(channel)` to get one.

    `async for received in reader` goes on until the reader is closed. A message that can't be decoded, or whose
    envelope is corrupt, is rejected: `open_reader(..., on_error=...)` says what becomes of it. The next still comes.

    The app is *done* with a message when it asks for the next one (`receive`, `receive_nowait`, iteration), when the
    block of `open_reader` is left in order, or when the block of `take()` or `borrow()` is. Only then is it
    acknowledged to the other side (unless the channel is `acknowledge="on-arrival"`). What the app was not done with
    when it was killed is given to its successor, with a `delivery_count` above 1.
    """

    def __init__(
        self,
        port: EnvelopeSubscriber,
        deliveries: Deliveries | None,
        hand: InHand[Taken[T]],
        topic: str,
        decode: Callable[[Buffer], T],
        decode_on: Callable[[Buffer, str], T] | None,
        on_error: OnError,
        on_rejected: Callable[[], None],
        max_deliveries: int,
    ) -> None:
        self._port = port
        self._deliveries = deliveries  # `None` if a message is acknowledged before the app has it
        self._handover = handover = Handover(port, deliveries, hand, max_deliveries)
        self._unreadable = Unreadable(port.spec.name, on_error, on_rejected, handover.done, handover.give_up)
        self._hand = hand
        self._finish, self._admit = handover.finish, handover.admit  # for every message: an attribute less
        self._topic = topic
        self._decode = decode
        self._decode_on = decode_on
        self._max_deliveries = max_deliveries
        self._again: list[tuple[int, Taken[T]]] = []  # given back, by number
        self._turn = trio.Lock()  # of the tasks in `take()`
        self._is_waiting = False
        self._not_given = 0  # opened, and neither rejected nor given to the app; less what it was given again
        self._has_more = False
        self._closed = False

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"ChannelReader({self._port.spec.name!r}, received={self._received}{closed})"

    async def receive(self) -> Received[T]:
        """Wait for the next message. Raises `trio.ClosedResourceError`, also when closed while waiting.

        The app is done with the one before. Only one task may wait at a time; a second one gets
        `trio.BusyResourceError`. Several tasks that work at several messages use `take`.

        Each call is a checkpoint for cancellation, and a cancelled one has taken nothing. It lets other tasks run
        whenever it waits, and at every 32nd message. Otherwise a message that is there already is returned at once,
        since letting others run costs as much as the message.
        """
        if self._hand.current:
            self._finish()
        port = self._port
        while True:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._again or self._closed or (place := port.take()) is None:
                place = await self._next()  # only if it must: a call for each message would show
            received = self._receive_again() if place is None else self._open(place)
            if received is not None:
                break
            await trio.lowlevel.checkpoint()
        if port.received % CHECKPOINT_EVERY == 0:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return received

    def receive_nowait(self) -> Received[T]:
        """Return the next message. Raises `trio.WouldBlock` if there is none, or if those looked at are rejected.

        The app is done with the one before.
        """
        if self._hand.current:
            self._finish()
        for _ in range(CHECKPOINT_EVERY):  # not for ever: a flood of rejected ones must not stop the event loop
            place = None if self._again else self._take()
            if place is None:
                if not self._again:
                    self._handover.tell_done()
                    raise trio.WouldBlock
                received = self._receive_again()
            else:
                received = self._open(place)
            if received is not None:
                return received
        self._has_more = True
        raise trio.WouldBlock

    async def wait(self) -> None:
        """Wait until `receive_nowait` may have something."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._has_more or self._again:
            self._has_more = False
            await trio.lowlevel.checkpoint()
            return
        self._handover.tell_done()
        await self._wait_for_data()
        self._port.data.clear()

    # Pieces of work

    def take(self) -> contextlib.AbstractAsyncContextManager[Received[T]]:
        """Wait for the next message, as a piece of work.

            async with reader.take() as received:
                await store(received.value)

        The app is done with it when the block is left in order. If that raises, or is cancelled, the message is given
        back: it comes again next, with a `delivery_count` that has grown, until the channel's `max_deliveries`. Then it
        goes to the dead letters, with what the block raised as the reason.

        Any number of tasks may be in such blocks at once, and end them in any order.
        """
        return _Block(self)

    def take_nowait(self) -> Taken[T]:
        """Return the next message as a piece of work that ends without a block: see `Taken`. For an executor.

        Raises `trio.WouldBlock` as `receive_nowait` does.
        """
        for _ in range(CHECKPOINT_EVERY):
            place = None if self._again else self._take()
            if place is None and not self._again:
                self._handover.tell_done()
                raise trio.WouldBlock
            taken = self._take_again() if place is None else self._open_taken(place)
            if taken is not None:
                return taken
        self._has_more = True
        raise trio.WouldBlock

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncIterator[Received[memoryview]]:
        """Wait for the next message and look at its payload in shared memory, with no copy and no codec.

            async with reader.borrow() as received:
                digest.update(received.value)

        The view is read-only and ends with the block: do not keep it, nor slices of it. Leaving the block means what it
        does in `take`.
        """
        while True:
            place = await self._next()
            if place is None:
                if (taken := self._take_again(decode=False)) is None:
                    continue
                with self._work(taken), memoryview(taken.payload) as view:
                    yield Received(view, taken.header, taken.concrete or self._topic, taken.metadata, taken.count)
                return
            unpin = self._port.pin()
            try:
                taken_view = self._open_view(place)
                if taken_view is not None:
                    taken, view = taken_view
                    if self._deliveries is None:
                        self._port.acknowledge(self._port.taken)  # as far as it is not pinned
                    try:
                        with self._work(taken, view):
                            topic = taken.concrete or self._topic
                            yield Received(view, taken.header, topic, taken.metadata, taken.count)
                    finally:
                        view.release()
                    return
            finally:
                unpin()
            await trio.lowlevel.checkpoint()

    def reject(self, received: Received[Any], reason: str) -> None:
        """Give up a message that the app has in hand: it goes to the dead letters, with this reason.

        Raises `MessageError` if the app is done with it already, and `ConfigError` if the channel is
        `acknowledge="on-arrival"`: then the other side has let go of it, and there is nothing to put there.
        """
        number = received.header.sequence_number
        if self._deliveries is None:
            raise ConfigError(
                f"{self._port.spec.name}: reject needs acknowledge='when-done': a message that is acknowledged on"
                " arrival is nobody's any more"
            )
        if self._handover.has_left or not self._hand.is_in_hand(number):
            raise MessageError(
                f"{self._port.spec.name}: message {number} is not in hand: reject it before the next one is received,"
                " or in its block"
            )
        self._handover.give_up(number, reason, received.header.delivery_id)

    @property
    def is_closed(self) -> bool:
        """True if it can no longer be received from."""
        return self._closed

    @property
    def is_behind(self) -> bool:
        """True if something was sent that has not been received yet, or was given back."""
        return bool(self._again) or self._port.is_behind

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """The last messages that could not be read, the newest last: 32 at most, with 64 KiB of payload in all.

        Empty unless the reader was opened with `on_error="keep"`, which is the default.
        """
        return self._unreadable.kept()

    def statistics(self) -> ReaderStatistics:
        return ReaderStatistics(self._received, self._unreadable.count, self._handover.redelivered, self._handover.dead)

    def close(self) -> None:
        """Close at once; whoever waits in `receive` gets `trio.ClosedResourceError`."""
        if not self._closed:
            self._closed = True
            self._port.data.interrupt()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    @property
    def _received(self) -> int:
        return self._port.received - self._unreadable.count - self._not_given

    # What comes

    async def _next(self) -> int | None:
        """Wait for the next envelope, and return its place; `None` if there is a message that was given back."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._again:
            return None
        place = self._take()
        while place is None:
            self._handover.tell_done()
            self._port.data.clear()
            place = self._take()
            if place is None:
                if self._again:
                    return None
                await self._wait_for_data()
                place = None if self._again else self._take()
        return place

    async def _wait_for_data(self) -> None:
        self._is_waiting = True
        try:
            await self._port.data.wait()
        except trio.ClosedResourceError:  # or a message was given back
            if self._closed:
                raise
        finally:
            self._is_waiting = False

    def _take(self) -> int | None:
        if self._closed:
            raise trio.ClosedResourceError("this reader was closed")
        return self._port.take()

    def _open(self, place: int) -> Received[T] | None:
        """Return the message, or `None` if it is not for the app."""
        topic, payload, count = self._topic, None, 1
        try:
            header, payload, concrete, metadata = self._port.open(place)
            if self._deliveries is not None:
                count = self._admit(header, payload, concrete, self._deliveries)
                if not count:
                    self._not_given += 1
                    return None
            if concrete:
                topic = concrete
                if self._decode_on is not None:
                    return Received(self._decode_on(payload, concrete), header, topic, metadata, count)
            return Received(self._decode(payload), header, topic, metadata, count)
        except NotSent:
            return None
        except Exception as exc:  # noqa: BLE001 - an app's own codec runs here, too
            if payload is None:
                self._handover.count_unreadable()
                self._unreadable.reject(exc, topic, self._port.first_bytes(place), self._hand.current, 0)
            else:
                self._unreadable.reject(exc, topic, payload, self._hand.current, header.delivery_id)
            return None
        finally:
            if self._deliveries is None:  # it is decoded, or given up: its memory may be used again
                self._port.acknowledge(self._port.taken)

    def _receive_again(self) -> Received[T] | None:
        taken = self._take_again()
        if taken is None:
            return None
        self._hand.current = taken.header.sequence_number  # also a piece, so that an earlier one is done first
        return taken.received

    # Pieces of work

    async def _next_taken(self) -> Taken[T]:
        """Wait for the next message. Only one task waits at the channel, and others for their turn."""
        if self._port.received % CHECKPOINT_EVERY == 0:
            await trio.lowlevel.checkpoint()  # before something is taken, which a cancellation would then give back
        try:
            self._turn.acquire_nowait()  # that is no checkpoint, but what comes next is one for cancellation
        except trio.WouldBlock:
            await self._turn.acquire()
        try:
            while True:
                place = await self._next()
                taken = self._take_again() if place is None else self._open_taken(place)
                if taken is not None:
                    return taken
                await trio.lowlevel.checkpoint()
        finally:
            self._turn.release()

    def _open_taken(self, place: int) -> Taken[T] | None:
        opened = self._open_view(place)
        if opened is None:
            return None
        taken, view = opened
        taken.payload = bytes(view)
        if self._deliveries is None:
            self._port.acknowledge(self._port.taken)
        return self._decode_taken(taken)

    def _open_view(self, place: int) -> tuple[Taken[T], memoryview] | None:
        """Return a piece of work without its payload, and that where it lies; `None` if it is not for the app."""
        hand, deliveries = self._hand, self._deliveries
        received, hand.current = hand.current, 0
        try:
            count, failures = 1, 0
            try:
                header, payload, concrete, metadata = self._port.open(place)
                number = header.sequence_number
                if deliveries is not None:
                    count = self._admit(header, payload, concrete, deliveries)
                    if count > 1:
                        failures = deliveries.failures(number)
            except NotSent:
                return None
            except TransportError as exc:
                self._handover.count_unreadable()
                try:
                    self._unreadable.reject(exc, self._topic, self._port.first_bytes(place), hand.current, 0)
                finally:
                    if deliveries is None:
                        self._port.acknowledge(self._port.taken)
                return None
            if not count:
                self._not_given += 1
                return None
            taken: Taken[T] = Taken(self, b"", header, concrete, metadata, count, failures)
            hand.pieces[number] = taken
            return taken, payload.toreadonly()
        finally:
            hand.current = received

    def _take_again(self, *, decode: bool = True) -> Taken[T] | None:
        if self._closed:
            raise trio.ClosedResourceError("this reader was closed")
        number, taken = self._again.pop(0)
        if taken.failures >= self._max_deliveries:
            self._handover.give_up(number, f"the app gave it back {taken.failures} times", taken.header.delivery_id)
            return None
        taken.count += 1
        if self._deliveries is not None:
            taken.count = max(taken.count, self._deliveries.again(number))
        taken.is_excusable = False
        self._handover.redelivered += 1
        self._not_given -= 1
        return self._decode_taken(taken) if decode else taken

    def _decode_taken(self, taken: Taken[T]) -> Taken[T] | None:
        """Decode it; return `None` if it can't be, and `on_error` has seen to it."""
        taken.value = taken.error = None
        topic = taken.concrete or self._topic
        header, metadata, count = taken.header, taken.metadata, taken.count
        try:
            if taken.concrete and self._decode_on is not None:
                value = self._decode_on(taken.payload, taken.concrete)
            else:
                value = self._decode(taken.payload)
        except Exception as exc:  # noqa: BLE001 - an app's own codec
            try:
                self._unreadable.reject(
                    exc, topic, memoryview(taken.payload), header.sequence_number, header.delivery_id
                )
            except Exception as raised:  # noqa: BLE001 - the app's own, too; it is for whoever works at the message
                taken.error = raised
                return taken
            return None
        taken.value = Received(value, header, topic, metadata, count)
        return taken

    @contextlib.contextmanager
    def _work(self, taken: Taken[T], view: memoryview | None = None) -> Iterator[None]:
        try:
            yield
        except BaseException as exc:
            if view is not None:
                taken.payload = bytes(view)
            taken.give_back(summary(exc) if is_failure(exc) else None)
            raise
        taken.done()

    def _taken_done(self, taken: Taken[T]) -> None:
        number = taken.header.sequence_number
        if not self._handover.has_left and self._hand.pieces.get(number) is taken:
            self._handover.done(number)

    def _taken_back(self, taken: Taken[T], reason: str | None) -> None:
        number = taken.header.sequence_number
        if self._handover.has_left or self._hand.pieces.get(number) is not taken:
            return
        taken.failures += 1
        if reason is None:
            taken.is_excusable = True
        elif taken.failures >= self._max_deliveries:
            self._handover.give_up(number, reason, taken.header.delivery_id)
            return
        bisect.insort(self._again, (number, taken), key=lambda entry: entry[0])
        if self._is_waiting and not self._closed:
            self._port.data.interrupt()

    def _taken_rejected(self, taken: Taken[T], reason: str) -> None:
        number = taken.header.sequence_number
        if not self._handover.has_left and self._hand.pieces.get(number) is taken:
            if self._deliveries is None:
                self._handover.done(number)
            else:
                self._handover.give_up(number, reason, taken.header.delivery_id)


class _Block(contextlib.AbstractAsyncContextManager[Received[T]]):
    """The block of `take`. (One made by a decorator costs twice as much.)"""

    __slots__ = ("_reader", "_taken")

    def __init__(self, reader: ChannelReader[T]) -> None:
        self._reader = reader

    async def __aenter__(self) -> Received[T]:
        self._taken = taken = await self._reader._next_taken()
        if taken.error is not None:
            taken.give_back(summary(taken.error))
        return taken.received

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None:
            self._taken.done()
        else:
            self._taken.give_back(summary(exc) if is_failure(exc) else None)


@contextlib.asynccontextmanager
async def open_reader(
    trunk: Trunk,
    connector: Connector,
    channel: ChannelDescriptor[T],
    *,
    on_error: OnError = "keep",
    on_rejected: Callable[[], None] = lambda: None,
) -> AsyncIterator[ChannelReader[T]]:
    """Open the reader of a channel of this trunk.

    `on_rejected` is called for each message that is kept because it can't be read.
    """
    is_function = callable(on_error) and not is_async_function(on_error)
    if on_error not in ("keep", "raise", "dead-letter") and not is_function:
        raise ConfigError(
            f"channel {channel.name!r}: on_error is {on_error!r}; use 'keep', 'raise', 'dead-letter' or a function that"
            " is not async"
        )
    spec = channel_spec(connector, channel)
    if on_error == "dead-letter" and not spec.counts_deliveries:
        raise ConfigError(
            f"channel {channel.name!r}: on_error='dead-letter' needs acknowledge='when-done': a message that is"
            " acknowledged on arrival is gone when it can't be decoded"
        )
    codec = connector.codec.for_channel(channel.max_payload)
    decode = codec.decoder(channel.message_type)
    decode_on = _filling_decoder(channel.routing, channel.message_type, codec)
    max_deliveries = channel.max_deliveries if isinstance(channel, Inbound) else 1
    async with contextlib.AsyncExitStack() as stack:
        port = stack.enter_context(trunk.open_subscriber(spec.name))
        deliveries, hand = None, InHand[Taken[Any]](0, port.may_come_again)
        if spec.counts_deliveries:
            deliveries = Deliveries(trunk.node, spec.name, spec.window)
            stack.callback(deliveries.close)
            hand = resume(port, deliveries)
        reader: ChannelReader[Any] = ChannelReader._create(
            port,
            deliveries,
            hand,
            channel.routing.address,
            decode,
            decode_on,
            on_error,
            on_rejected,
            max_deliveries,
        )
        with contextlib.closing(reader):  # with no checkpoint, as `ConnectorHost.open_writer`
            try:
                yield reader
            except BaseException as exc:
                reader._handover.leave(exc)
                raise
            reader._handover.leave(None)


def _filling_decoder(routing: Routing, message_type: type[T], codec: PayloadCodec) -> Callable[[Buffer, str], T] | None:
    fields_of = routing.fields_of(message_type)
    if fields_of is None:
        return None
    decode = codec.filling_decoder(message_type)
    return lambda payload, topic: decode(payload, fields_of(topic))
