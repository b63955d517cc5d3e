"""ChannelWriter: the app's end of an outbound channel, a trio `SendChannel`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import attrs
import trio

from taktora_trio.channels import ChannelDescriptor, Metadata, Routing
from taktora_trio.channels.codec import Buffer
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.plan import channel_name
from taktora_trio.errors import BackPressure, ConfigError, MessageError
from taktora_trio.health import FULL_FOR
from taktora_trio.host.receipts import Waiting
from taktora_trio.host.stamps import Ways, ways_of
from taktora_trio.opening import NoPublicConstructor
from taktora_trio.transport.envelope import check_correlation_id, pack_metadata
from taktora_trio.transport.publisher import CHECKPOINT_EVERY, EnvelopePublisher
from taktora_trio.transport.trunk import Trunk

__all__ = ["ChannelWriter", "WriterStatistics", "open_writer", "writer_on"]

T = TypeVar("T")


@attrs.frozen
class WriterStatistics:
    """Counts since the host first opened the channel."""

    sent: int
    """Messages that were sent."""
    waited: int
    """Messages that found no room at first, in `send` and in `send_nowait`."""


class ChannelWriter(trio.abc.SendChannel[T], metaclass=NoPublicConstructor, opened_by="host.open_writer(channel)"):
    """Sends messages of one type. Use `host.open_writer(channel)` to get one.

    A message is in shared memory when `send` returns, with its number: for the gateway to publish, not published yet.
    `wait_stored` and `wait_acknowledged` wait for its receipts. The port below the writer stays open as long as its
    owner wants, for what was sent to be taken.
    """

    def __init__(
        self,
        port: EnvelopePublisher,
        ways: Ways,
        encode: Callable[[T], Buffer],
        on_full: Callable[[], None],
        routing: Routing,
        topic_of: Callable[[T], str] | None,
        check_carries_metadata: Callable[[], None],
    ) -> None:
        self._port = port
        self._send, self._lend = ways
        self._encode = encode
        self._on_full = on_full
        self._routing = routing
        self._topic_of = topic_of
        self._check_carries_metadata = check_carries_metadata
        self._has_topics = port.spec.topic_space > 0
        self._turn = trio.StrictFIFOLock()
        self._waiting = Waiting(port)
        self._waited = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"ChannelWriter({self._port.spec.name!r}, sent={self._port.sent}{', closed' if self._closed else ''})"

    async def send(  # type: ignore[override]  # trio's returns nothing
        self,
        value: T,
        *,
        correlation_id: bytes = b"",
        topic: str = "",
        metadata: Metadata | None = None,
    ) -> int:
        """Send a message; wait while the channel is full, that is, while a whole window is neither stored nor
        acknowledged. Returns its number, for `wait_stored` and `wait_acknowledged`.

        Order is kept. `correlation_id` is carried along as it is; `metadata`, and what an id has beyond 42 bytes, where
        the channel has room for it. A `topic` belongs to a routing that is a pattern; where the routing fills it in
        from the message it can be left out. Raises `MessageError` (`CodecError` and `PayloadOverflow` are some) at
        once, with nothing sent, and `trio.ClosedResourceError`.

        Each call is a checkpoint for cancellation, and a cancelled one has sent nothing. It lets other tasks run
        whenever it waits, and at every 32nd message. Otherwise it returns at once, since letting others run costs as
        much as the message.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        # `send_nowait` and `loan` have these lines again: a function for them would be one more call for each message.
        self._check_open()
        payload = self._encode(value)
        if correlation_id != b"":
            correlation_id = self._correlation_id(correlation_id)
        encoded_topic = self._topic(topic, value) if topic or self._has_topics else b""
        packed = b"" if metadata is None else self._metadata(metadata)
        if not self._turn.locked() and (number := self._send(payload, encoded_topic, packed, correlation_id)):
            if number % CHECKPOINT_EVERY == 0:
                await trio.lowlevel.cancel_shielded_checkpoint()
            return number
        return await self._until_sent(lambda: self._send(payload, encoded_topic, packed, correlation_id))

    def send_nowait(
        self,
        value: T,
        *,
        correlation_id: bytes = b"",
        topic: str = "",
        metadata: Metadata | None = None,
    ) -> int:
        """Like `send`, but raises `BackPressure` (a `trio.WouldBlock`) where it would wait."""
        self._check_open()
        payload = self._encode(value)
        if correlation_id != b"":
            correlation_id = self._correlation_id(correlation_id)
        encoded_topic = self._topic(topic, value) if topic or self._has_topics else b""
        packed = b"" if metadata is None else self._metadata(metadata)
        if not self._turn.locked() and (number := self._send(payload, encoded_topic, packed, correlation_id)):
            return number
        self._waited += 1
        self._show_full()
        raise BackPressure(
            f"{self._port.spec.name} is full: {self._port.spec.window} messages are not acknowledged yet;"
            " try again later, or use `await send(...)`, which waits"
        )

    @contextlib.asynccontextmanager
    async def loan(
        self,
        length: int,
        *,
        correlation_id: bytes = b"",
        topic: str = "",
        metadata: Metadata | None = None,
    ) -> AsyncIterator[memoryview]:
        """Write a payload of `length` bytes straight into shared memory, with no copy and no codec.

            async with writer.loan(len(frame)) as view:
                camera.read_into(view)

        It is sent when the block ends, when `last_sent` is its number, and given back unsent if the block raises. Do
        not keep the view. There is no message to fill the topic in from, so where the routing is a pattern it must be
        given.
        """
        if not isinstance(length, int) or length < 0:
            raise MessageError(f"a loan of {length!r} bytes: give the payload's length, 0 or more")
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        if correlation_id != b"":
            correlation_id = self._correlation_id(correlation_id)
        encoded_topic = self._topic(topic) if topic or self._has_topics else b""
        packed = b"" if metadata is None else self._metadata(metadata)
        loan = self._lend(length, encoded_topic, packed, correlation_id)
        is_sent = False
        try:
            with loan.payload as view:
                yield view
            if self._turn.locked() or not self._port.send_loan(loan):
                await self._until_sent(lambda: self._port.send_loan(loan))
            is_sent = True
        finally:
            if not is_sent:
                loan.give_back()

    @property
    def last_sent(self) -> int:
        """The number of the last message that was sent on the channel; 0 if none was."""
        return self._port.last_sent

    async def wait_stored(self, number: int | None = None) -> None:
        """Wait until a message is safe from the end of this process: it is in the gateway's store, or, where there is
        none, acknowledged by the other side. Without a number, wait for all that were sent so far.

        Raises `MessageRefused`, with the reason, for a message that the other side refuses, or that was given up.
        Without a number it says which ones were, of those for which no such wait has ended before. Raises
        `MessageError` for a number that this process has not sent, or of which it is not known any more whether it was
        refused; and `trio.ClosedResourceError`.

        Any number of tasks may wait, over any number of gateways and connections. A cancelled wait loses nothing.
        """
        await trio.lowlevel.checkpoint()
        self._check_open()
        await self._waiting.until_received("stored", number)

    async def wait_acknowledged(self, number: int | None = None) -> None:
        """Wait until the other side has acknowledged a message: like `wait_stored`, with or without a store.

        Where the other side acknowledges nothing it was written to the connection then.
        """
        await trio.lowlevel.checkpoint()
        self._check_open()
        await self._waiting.until_received("acknowledged", number)

    def statistics(self) -> WriterStatistics:
        return WriterStatistics(sent=self._port.sent, waited=self._waited)

    def close(self) -> None:
        """Close at once; whoever waits in `send` gets `trio.ClosedResourceError`. What was sent stays sent."""
        if not self._closed:
            self._closed = True
            self._waiting.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    async def _until_sent(self, send: Callable[[], int]) -> int:
        self._waited += 1
        try:
            self._turn.acquire_nowait()  # no checkpoint, where nobody is before us
        except trio.WouldBlock:
            await self._turn.acquire()
        try:
            while True:
                self._check_open()
                if number := send():
                    return number
                self._show_full()
                with trio.move_on_after(FULL_FOR / 2):  # for as long as it waits, it is full
                    return await self._waiting.until_sent(send)
        finally:
            self._turn.release()

    def _topic(self, topic: str, value: T | None = None) -> bytes:
        if not isinstance(topic, str):
            raise MessageError(f"a topic is {topic!r}: give it as a str")
        if topic:
            self._routing.check_topic(topic)
        elif self._topic_of is not None and value is not None:
            topic = self._topic_of(value)
        else:
            raise MessageError(f"{self._port.spec.name} has no topic of its own: give each message one with topic=...")
        return topic.encode()

    def _metadata(self, metadata: Metadata) -> bytes:
        self._check_carried()
        packed = pack_metadata(metadata)  # first, for by this it is known to be what it says
        self._routing.check_metadata(metadata)
        return packed

    def _correlation_id(self, value: bytes) -> bytes:
        check_correlation_id(value)
        self._check_carried()
        return value

    def _check_carried(self) -> None:
        try:
            self._check_carries_metadata()
        except ConfigError as exc:
            raise MessageError(str(exc)) from None

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this writer was closed")

    def _show_full(self) -> None:
        if self._port.has_reader:
            self._on_full()


def writer_on(
    port: EnvelopePublisher, connector: Connector, channel: ChannelDescriptor[T], on_full: Callable[[], None]
) -> ChannelWriter[T]:
    """Return a writer of this channel on a port that is open, and stays so.

    `on_full` is called whenever there is no room for a message and somebody to read it.
    """
    routing, message_type = channel.routing, channel.message_type
    codec = connector.codec.for_channel(channel.max_payload)
    writer: ChannelWriter[Any] = ChannelWriter._create(
        port,
        ways_of(port, codec, tracing=connector.trace_space > 0),
        codec.encoder(message_type),
        on_full,
        routing,
        routing.topic_of(message_type),
        connector.check_carries_metadata,
    )
    return writer


@contextlib.asynccontextmanager
async def open_writer(
    trunk: Trunk,
    connector: Connector,
    channel: ChannelDescriptor[T],
    *,
    on_full: Callable[[], None] = lambda: None,
) -> AsyncIterator[ChannelWriter[T]]:
    """Open the writer of a channel of this trunk, with which what is not read then is lost."""
    port = trunk.publisher(channel_name(connector, channel))
    with contextlib.closing(writer_on(port, connector, channel, on_full)) as writer:
        yield writer
