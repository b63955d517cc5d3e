"""ChannelReader: the app's end of an inbound channel, a trio `ReceiveChannel`."""

from __future__ import annotations

import bisect
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Literal, TypeAlias, TypeVar
from zlib import crc32

import attrs
import trio

from taktora_trio.channels import ChannelDescriptor, Header, Inbound, Received, Routing
from taktora_trio.channels.codec import Buffer, PayloadCodec
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.plan import channel_spec
from taktora_trio.errors import CodecError, ConfigError, MessageError, TransportError, is_worth_logging, leaves, summary
from taktora_trio.escaping import escaped
from taktora_trio.host.in_hand import Arrival, InHand
from taktora_trio.host.rejected import Rejected, RejectedMessages
from taktora_trio.host.taken import Taken
from taktora_trio.opening import NoPublicConstructor
from taktora_trio.transport.deliveries import DEAD, DONE, WHOLE, Deliveries, identity_of
from taktora_trio.transport.node import Node
from taktora_trio.transport.ports import CHECKPOINT_EVERY, EnvelopeSubscriber, Sample, open_envelope_subscriber

__all__ = ["ChannelReader", "OnError", "ReaderStatistics", "open_reader"]

T = TypeVar("T")
log = logging.getLogger(__name__)

OnError: TypeAlias = Literal["keep", "raise", "dead-letter"] | Callable[[Rejected], object]
"""The choices for a message that can't be read: see `ConnectorHost.open_reader`."""


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
        self._hand = hand
        self._topic = topic
        self._decode = decode
        self._decode_on = decode_on
        self._on_error = on_error
        self._on_rejected = on_rejected
        self._max_deliveries = max_deliveries
        self._again: list[tuple[int, Taken[T]]] = []  # given back, by number
        self._turn = trio.Lock()  # of the tasks in `take()`
        self._is_waiting = False
        self._rejected = self._redelivered = self._dead = 0
        self._not_given = 0  # opened, and neither rejected nor given to the app; less what it was given again
        self._kept = RejectedMessages()
        self._has_more = False
        self._closed = self._left = False

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
        while True:
            sample = await self._next()
            received = self._receive_again() if sample is None else self._open(sample)
            if received is not None:
                break
            await trio.lowlevel.checkpoint()
        if self._port.received % CHECKPOINT_EVERY == 0:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return received

    def receive_nowait(self) -> Received[T]:
        """Return the next message. Raises `trio.WouldBlock` if there is none, or if those looked at are rejected.

        The app is done with the one before.
        """
        if self._hand.current:
            self._finish()
        for _ in range(CHECKPOINT_EVERY):  # not for ever: a flood of rejected ones must not stop the event loop
            sample = None if self._again else self._take()
            if sample is None:
                if not self._again:
                    self._tell_done()
                    raise trio.WouldBlock
                received = self._receive_again()
            else:
                received = self._open(sample)
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
        self._tell_done()
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
            sample = None if self._again else self._take()
            if sample is None and not self._again:
                self._tell_done()
                raise trio.WouldBlock
            taken = self._take_again() if sample is None else self._open_taken(sample)
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
            sample = await self._next()
            if sample is None:
                if (taken := self._take_again(decode=False)) is None:
                    continue
                with self._work(taken), memoryview(taken.payload) as view:
                    yield Received(view, taken.header, taken.concrete or self._topic, taken.metadata, taken.count)
                return
            try:
                taken_view = self._open_view(sample)
                if taken_view is not None:
                    taken, view = taken_view
                    try:
                        with self._work(taken, view):
                            topic = taken.concrete or self._topic
                            yield Received(view, taken.header, topic, taken.metadata, taken.count)
                    finally:
                        view.release()
                    return
            finally:
                sample.delete()
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
        if self._left or not self._hand.is_in_hand(number):
            raise MessageError(
                f"{self._port.spec.name}: message {number} is not in hand: reject it before the next one is received,"
                " or in its block"
            )
        self._give_up(number, reason, received.header.delivery_id)

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
        return self._kept.kept()

    def statistics(self) -> ReaderStatistics:
        return ReaderStatistics(self._received, self._rejected, self._redelivered, self._dead)

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
        return self._port.received - self._rejected - self._not_given

    # What comes

    async def _next(self) -> Sample | None:
        """Wait for the next sample; `None` if there is a message that was given back."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._again:
            return None
        sample = self._take()
        while sample is None:
            self._tell_done()
            self._port.data.clear()
            sample = self._take()
            if sample is None:
                if self._again:
                    return None
                await self._wait_for_data()
                sample = None if self._again else self._take()
        return sample

    async def _wait_for_data(self) -> None:
        self._is_waiting = True
        try:
            await self._port.data.wait()
        except trio.ClosedResourceError:  # or a message was given back
            if self._closed:
                raise
        finally:
            self._is_waiting = False

    def _take(self) -> Sample | None:
        if self._closed:
            raise trio.ClosedResourceError("this reader was closed")
        return self._port.take()

    def _open(self, sample: Sample) -> Received[T] | None:
        """Return the message, or `None` if it is not for the app."""
        topic, payload, count = self._topic, None, 1
        try:
            if self._deliveries is None:
                header, payload, concrete, metadata = self._port.open(sample, acknowledge=True)
            else:
                header, payload, concrete, metadata = self._port.open(sample)
                count = self._admit(header, payload, concrete, self._deliveries)
                if not count:
                    self._not_given += 1
                    return None
            if concrete:
                topic = concrete
                if self._decode_on is not None:
                    return Received(self._decode_on(payload, concrete), header, topic, metadata, count)
            return Received(self._decode(payload), header, topic, metadata, count)
        except Exception as exc:  # noqa: BLE001 - an app's own codec runs here, too
            if payload is None:
                self._count_unreadable()
                self._reject(exc, topic, self._port.first_bytes(sample), self._hand.current, 0)
            else:
                self._reject(exc, topic, payload, self._hand.current, header.delivery_id)
            return None
        finally:
            sample.delete()

    def _admit(self, header: Header, payload: memoryview, topic: str, deliveries: Deliveries) -> int:
        """Return how often the app is given the message now, which is then the current one; 0 if it is not."""
        hand, number, delivery_id = self._hand, header.sequence_number, header.delivery_id
        if header.at_most_once:
            return self._admit_once(header, deliveries)
        length = len(payload)
        # The second is the same as the first, without a call.
        identity = identity_of(payload, topic) if topic or length > WHOLE else crc32(payload) | length << 32
        if number == hand.taken + 1 and not header.redelivered and not hand.done_before:
            hand.taken = number
            if delivery_id:
                hand.remember(number, identity, delivery_id)
        elif not self._is_new(header, identity, deliveries):
            return 0
        hand.current = number
        count = deliveries.handing_over(number, identity, delivery_id)
        if count == 1:
            return 1
        if (failures := deliveries.failures(number)) >= self._max_deliveries:
            deliveries.not_given(number)
            self._give_up(number, f"the app was given it {failures} times, and was never done with it", delivery_id)
            return 0
        self._redelivered += 1
        return count

    def _admit_once(self, header: Header, deliveries: Deliveries) -> int:
        """The same for a message that nobody keeps: neither a repeat nor a later reader is to be told of it."""
        hand, number = self._hand, header.sequence_number
        if number == hand.taken + 1 and not hand.done_before:
            hand.taken = number
        elif not self._is_new(header, 0, deliveries):
            return 0
        hand.current = number
        deliveries.handing_over_once(number)
        return 1

    def _is_new(self, header: Header, identity: int, deliveries: Deliveries) -> bool:
        hand, number = self._hand, header.sequence_number
        last = self._port.last_used
        if number > last:
            raise TransportError(f"an envelope has the number {number}, and {last} is the last that was sent")
        if hand.taken > last:  # a gateway has found its cursor broken, and counts anew
            hand.taken = number - 1
        arrival = hand.arrives(number, identity, header.delivery_id, redelivered=header.redelivered)
        if arrival is Arrival.NEW:
            return True
        if arrival is Arrival.REPEAT and (reason := hand.reason_of_repeat(number)) is not None:
            deliveries.bury(number, reason)
        if arrival is not Arrival.STALE:
            self._release()
        return False

    def _count_unreadable(self) -> None:
        """An envelope has come whose number can't be read: else it would take up the window for good."""
        hand = self._hand
        if self._deliveries is not None and hand.taken < self._port.last_used:
            hand.taken += 1
            hand.current = hand.taken

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
                sample = await self._next()
                taken = self._take_again() if sample is None else self._open_taken(sample)
                if taken is not None:
                    return taken
                await trio.lowlevel.checkpoint()
        finally:
            self._turn.release()

    def _open_taken(self, sample: Sample) -> Taken[T] | None:
        try:
            opened = self._open_view(sample)
            if opened is None:
                return None
            taken, view = opened
            taken.payload = bytes(view)
            return self._decode_taken(taken)
        finally:
            sample.delete()

    def _open_view(self, sample: Sample) -> tuple[Taken[T], memoryview] | None:
        """Return a piece of work without its payload, and that where it lies; `None` if it is not for the app."""
        hand, deliveries = self._hand, self._deliveries
        received, hand.current = hand.current, 0
        try:
            count, failures = 1, 0
            try:
                header, payload, concrete, metadata = self._port.open(sample, acknowledge=deliveries is None)
                number = header.sequence_number
                if deliveries is not None:
                    count = self._admit(header, payload, concrete, deliveries)
                    if count > 1:
                        failures = deliveries.failures(number)
            except TransportError as exc:
                self._count_unreadable()
                self._reject(exc, self._topic, self._port.first_bytes(sample), hand.current, 0)
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
            self._give_up(number, f"the app gave it back {taken.failures} times", taken.header.delivery_id)
            return None
        taken.count += 1
        if self._deliveries is not None:
            taken.count = max(taken.count, self._deliveries.again(number))
        taken.is_excusable = False
        self._redelivered += 1
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
                self._reject(exc, topic, memoryview(taken.payload), header.sequence_number, header.delivery_id)
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
            taken.give_back(summary(exc) if _is_failure(exc) else None)
            raise
        taken.done()

    def _taken_done(self, taken: Taken[T]) -> None:
        number = taken.header.sequence_number
        if not self._left and self._hand.pieces.get(number) is taken:
            self._done(number)

    def _taken_back(self, taken: Taken[T], reason: str | None) -> None:
        number = taken.header.sequence_number
        if self._left or self._hand.pieces.get(number) is not taken:
            return
        taken.failures += 1
        if reason is None:
            taken.is_excusable = True
        elif taken.failures >= self._max_deliveries:
            self._give_up(number, reason, taken.header.delivery_id)
            return
        bisect.insort(self._again, (number, taken), key=lambda entry: entry[0])
        if self._is_waiting and not self._closed:
            self._port.data.interrupt()

    def _taken_rejected(self, taken: Taken[T], reason: str) -> None:
        number = taken.header.sequence_number
        if not self._left and self._hand.pieces.get(number) is taken:
            if self._deliveries is None:
                self._done(number)
            else:
                self._give_up(number, reason, taken.header.delivery_id)

    # What the app is done with

    def _finish(self) -> None:
        """The app is done with the current message."""
        hand = self._hand
        if hand.pieces:
            self._done(hand.current)
            return
        hand.current = 0
        if self._deliveries is not None and not self._left and self._port.done_with(hand.taken):
            self._deliveries.done_up_to(hand.taken)

    def _done(self, number: int) -> None:
        self._hand.done(number)
        if self._deliveries is not None and not self._left:
            if number > self._hand.done_up_to:
                self._deliveries.done(number)
            self._release()

    def _release(self) -> None:
        """Let the gateway have all up to the first message that is in hand."""
        if self._deliveries is not None:
            up_to = self._hand.done_up_to
            if self._port.done_with(up_to):
                self._deliveries.done_up_to(up_to)

    def _tell_done(self) -> None:
        """Nothing comes now, so nothing else would tell the gateway what the app is done with."""
        if self._deliveries is not None and self._port.tell_done():
            self._deliveries.done_up_to(self._port.released)

    def _give_up(self, number: int, reason: str, delivery_id: int) -> None:
        """Send a message to the dead letters. The gateway has it, and puts it there."""
        self._dead += 1
        name = self._port.spec.name
        if self._deliveries is None:
            log.error(
                "%s: message %d is discarded, for it was acknowledged on arrival: %s", name, number, escaped(reason)
            )
        else:
            for each in self._hand.bury(number, reason, delivery_id):
                self._deliveries.bury(each, reason)
            if is_worth_logging(self._dead):
                text = "%s: message %d goes to the dead letters (%d so far): %s"
                log.error(text, name, number, self._dead, escaped(reason))
        self._done(number)

    def _leave(self, exc: BaseException | None) -> None:
        """The block of the reader is left. What the app was not done with goes to the next reader."""
        hand, deliveries = self._hand, self._deliveries
        if deliveries is not None:
            if hand.current and exc is None:
                self._finish()
            elif hand.current and exc is not None and not _is_failure(exc):
                deliveries.excuse(hand.current)
            for number, taken in hand.pieces.items():
                if taken.is_excusable:
                    deliveries.excuse(number)
            self._tell_done()
        self._left = True

    def _reject(self, exc: Exception, topic: str, raw: memoryview, number: int, delivery_id: int) -> None:
        """Do with a message that can't be read what `on_error` says; its number is 0 if it is acknowledged already."""
        self._rejected += 1
        error: MessageError | TransportError
        if isinstance(exc, TransportError):
            error = exc
        else:
            why = str(exc) if isinstance(exc, MessageError) else summary(exc)
            error = CodecError(f"a message on {topic!r} can't be decoded: {why}", topic=topic)
            error.__cause__ = exc
        if self._on_error == "raise":
            raise error
        if self._on_error == "dead-letter":
            self._on_rejected()
            if number:
                self._give_up(number, str(error), delivery_id)
            return
        rejected = Rejected(topic, bytes(raw), error, len(raw))
        if callable(self._on_error):
            self._on_error(rejected)
        else:
            self._kept.add(rejected)
            self._on_rejected()
            if is_worth_logging(self._rejected):
                name = self._port.spec.name
                log.error(
                    "%s: a message can't be read (%d so far): %s; see reader.rejected",
                    name,
                    self._rejected,
                    escaped(str(error)),
                )
        if number:
            self._done(number)


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
            self._taken.give_back(summary(exc) if _is_failure(exc) else None)


def _is_failure(exc: BaseException) -> bool:
    """True if something went wrong, and false if somebody wanted it to end: by a cancellation, or Ctrl-C."""
    return any(isinstance(leaf, Exception) for leaf in leaves(exc))


@contextlib.asynccontextmanager
async def open_reader(
    node: Node,
    connector: Connector,
    channel: ChannelDescriptor[T],
    *,
    on_error: OnError = "keep",
    on_rejected: Callable[[], None] = lambda: None,
) -> AsyncIterator[ChannelReader[T]]:
    """Open the reader of a channel, whose service exists.

    `on_rejected` is called for each message that is kept because it can't be read.
    """
    is_function = callable(on_error) and not inspect.iscoroutinefunction(on_error)
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
    decode = connector.codec.decoder(channel.message_type)
    decode_on = _filling_decoder(channel.routing, channel.message_type, connector.codec)
    max_deliveries = channel.max_deliveries if isinstance(channel, Inbound) else 1
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(open_envelope_subscriber(node, spec))
        deliveries, hand = None, InHand[Taken[Any]](0, port.may_come_again)
        if spec.counts_deliveries:
            deliveries = Deliveries(node, spec.name, spec.window)
            stack.callback(deliveries.close)
            hand = _resume(port, deliveries)
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
        async with reader:
            try:
                yield reader
            except BaseException as exc:
                reader._leave(exc)
                raise
            reader._leave(None)


def _resume(port: EnvelopeSubscriber, deliveries: Deliveries) -> InHand[Any]:
    """Go on where the reader before has stopped."""
    behind = port.resumes_behind
    earlier = deliveries.resume(behind, port.last_used)
    done = [handed.number for handed in earlier if handed.state in (DONE, DEAD) and handed.number > behind]
    hand = InHand[Any](behind, port.may_come_again, done, port.acknowledged_bounds)
    for handed in earlier:
        if handed.delivery_id and port.may_come_again(handed.number):
            hand.remember(handed.number, handed.identity, handed.delivery_id)
            if handed.state == DEAD:
                hand.bury(handed.number, deliveries.reason_of(handed.number) or "", handed.delivery_id)
    return hand


def _filling_decoder(routing: Routing, message_type: type[T], codec: PayloadCodec) -> Callable[[Buffer, str], T] | None:
    fields_of = routing.fields_of(message_type)
    if fields_of is None:
        return None
    decode = codec.filling_decoder(message_type)
    return lambda payload, topic: decode(payload, fields_of(topic))
