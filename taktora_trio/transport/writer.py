"""ChannelWriter: the app's end of an outbound channel, a trio `SendChannel`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import attrs
import iceoryx2 as iox2
import trio

from taktora_trio.channels import Metadata, Routing
from taktora_trio.channels.codec import Buffer, PayloadCodec
from taktora_trio.errors import BackPressure, ConfigError, MessageError
from taktora_trio.health import FULL_FOR
from taktora_trio.transport.envelope import CORRELATION_FIELD, check_correlation_id, pack_metadata
from taktora_trio.transport.ports import CHECKPOINT_EVERY, EnvelopePublisher, open_envelope_publisher
from taktora_trio.transport.services import ServiceSpec

__all__ = ["ChannelWriter", "WriterStatistics", "open_writer"]

log = logging.getLogger(__name__)

T = TypeVar("T")


@attrs.frozen
class WriterStatistics:
    """Counts since the host first opened the channel."""

    sent: int
    waited: int
    """How often a message found no room, in `send` and in `send_nowait`."""


class ChannelWriter(trio.abc.SendChannel[T]):
    """Sends messages of one type. Use `host.open_writer(channel)` to get one.

    A message is in shared memory when `send` returns: for the gateway to publish, not published yet.
    The port below it stays open as long as its owner wants, for what was sent to be taken.
    """

    def __init__(
        self,
        port: EnvelopePublisher,
        encode: Callable[[T], Buffer],
        on_full: Callable[[], None],
        routing: Routing | None = None,
        topic_of: Callable[[T], str] | None = None,
        check_carries_metadata: Callable[[], None] = lambda: None,
    ) -> None:
        self._port = port
        self._encode = encode
        self._on_full = on_full
        self._routing = routing
        self._topic_of = topic_of
        self._check_carries_metadata = check_carries_metadata
        self._has_topics = port.spec.topic_space > 0
        self._turn = trio.StrictFIFOLock()
        self._waited = 0
        self._has_told = False
        self._closed = False

    def __repr__(self) -> str:
        return f"ChannelWriter({self._port.spec.name!r}, sent={self._port.sent}{', closed' if self._closed else ''})"

    @property
    def unread(self) -> int:
        """How many messages were sent and not received, with nobody there to do so: they end with this writer."""
        return 0 if self._port.has_reader else self._port.waiting

    async def send(
        self,
        value: T,
        *,
        correlation_id: bytes = b"",
        topic: str = "",
        metadata: Metadata | None = None,
        retained: bool = False,
    ) -> None:
        """Send a message; wait while the channel is full: while a whole window is not acknowledged. Order is kept.

        `correlation_id` is carried along as it is; `metadata`, and what an id has beyond 42 bytes, where the channel
        has room for it. A `topic` belongs to a routing that is a pattern; where the routing fills it in from the
        message it can be left out. `retained` is for the gateway to say. Raises `CodecError`, `ConfigError` and
        `PayloadOverflow` at once, with nothing sent, and `trio.ClosedResourceError`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        payload = self._encode(value)
        if correlation_id != b"":
            correlation_id = self._correlation_id(correlation_id)
        encoded_topic = self._topic(topic, value) if topic or self._has_topics else b""
        packed = b"" if metadata is None else self._metadata(metadata)
        if retained:
            self._check_retained()
        if not self._turn.locked() and self._port.send(payload, encoded_topic, packed, correlation_id, retained):
            if self._port.sent % CHECKPOINT_EVERY == 0:
                await trio.lowlevel.cancel_shielded_checkpoint()
            return
        await self._until_sent(lambda: self._port.send(payload, encoded_topic, packed, correlation_id, retained))

    def send_nowait(
        self,
        value: T,
        *,
        correlation_id: bytes = b"",
        topic: str = "",
        metadata: Metadata | None = None,
        retained: bool = False,
    ) -> None:
        """Like `send`, but raises `BackPressure` (a `trio.WouldBlock`) where it would wait."""
        self._check_open()
        payload = self._encode(value)
        if correlation_id != b"":
            correlation_id = self._correlation_id(correlation_id)
        encoded_topic = self._topic(topic, value) if topic or self._has_topics else b""
        packed = b"" if metadata is None else self._metadata(metadata)
        if retained:
            self._check_retained()
        if self._turn.locked() or not self._port.send(payload, encoded_topic, packed, correlation_id, retained):
            self._waited += 1
            self._tell_full()
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

        It is sent when the block ends, and given back unsent if the block raises. Do not keep the view. There is no
        message to fill the topic in from, so where the routing is a pattern it must be given.
        """
        if not isinstance(length, int) or length < 0:
            raise MessageError(f"a loan of {length!r} bytes: give the payload's length, 0 or more")
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        if correlation_id != b"":
            correlation_id = self._correlation_id(correlation_id)
        encoded_topic = self._topic(topic) if topic or self._has_topics else b""
        packed = b"" if metadata is None else self._metadata(metadata)
        loan = self._port.loan(length, encoded_topic, packed, correlation_id)
        view = loan.payload
        try:
            yield view
        except BaseException:
            view.release()
            loan.sample.delete()
            raise
        view.release()
        try:
            if self._turn.locked() or not self._port.send_loan(loan):
                await self._until_sent(lambda: self._port.send_loan(loan))
        except (trio.Cancelled, trio.ClosedResourceError):
            loan.sample.delete()
            raise

    def find_reader(self) -> None:
        """Hand what is waiting to a reader that has come, now instead of at the next send."""
        if not self._closed:
            self._port.update_connections()

    def statistics(self) -> WriterStatistics:
        return WriterStatistics(sent=self._port.sent, waited=self._waited)

    def close(self) -> None:
        """Close at once; whoever waits in `send` gets `trio.ClosedResourceError`. What was sent stays sent."""
        if not self._closed:
            self._closed = True
            self._port.space.interrupt()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    async def _until_sent(self, send: Callable[[], bool]) -> None:
        self._waited += 1
        async with self._turn:
            while True:
                self._check_open()
                self._port.space.clear()
                if send():
                    return
                self._tell_full()
                with trio.move_on_after(FULL_FOR / 2):  # for as long as it waits, it is told
                    await self._port.space.wait()

    def _topic(self, topic: str, value: T | None = None) -> bytes:
        if self._routing is None:
            return topic.encode()
        if topic:
            self._routing.check_topic(topic)
        elif self._topic_of is not None and value is not None:
            topic = self._topic_of(value)
        else:
            raise MessageError(f"{self._port.spec.name} has no topic of its own: give each message one with topic=...")
        return topic.encode()

    def _metadata(self, metadata: Metadata) -> bytes:
        if self._routing is None:
            return pack_metadata(metadata) if self._port.spec.metadata_space else b""
        self._check_carried()
        packed = pack_metadata(metadata)  # first, for by this it is known to be what it says
        self._routing.check_metadata(metadata)
        return packed

    def _correlation_id(self, value: bytes) -> bytes:
        check_correlation_id(value)
        self._check_carried()
        if self._routing is None and not self._port.spec.metadata_space and len(value) > CORRELATION_FIELD:
            if not self._has_told:
                self._has_told = True
                log.warning(
                    "%s: a correlation id of %d bytes was left out, and so is every other longer than %d: set the"
                    " channel's max_metadata",
                    self._port.spec.name,
                    len(value),
                    CORRELATION_FIELD,
                )
            return b""
        return value

    def _check_carried(self) -> None:
        try:
            self._check_carries_metadata()
        except ConfigError as exc:
            raise MessageError(str(exc)) from None

    def _check_retained(self) -> None:
        if self._routing is not None:
            raise ConfigError(f"{self._port.spec.name}: whether its messages are retained is said by its routing")

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this writer was closed")

    def _tell_full(self) -> None:
        if self._port.has_reader:
            self._on_full()


@contextlib.asynccontextmanager
async def open_writer(
    node: iox2.Node,
    spec: ServiceSpec,
    message_type: type[T],
    codec: PayloadCodec,
    *,
    on_full: Callable[[], None] = lambda: None,
) -> AsyncIterator[ChannelWriter[T]]:
    """The gateway's writer of a channel; `on_full` is called whenever its reader has no room for a message.

    Topics are taken as they are, and metadata, and what an id has beyond 42 bytes, is left out where the channel has no
    room for any: all of it comes from outside, and it is the app that has declared what it wants of it.
    """
    encode = codec.encoder(message_type)
    async with open_envelope_publisher(node, spec) as port, ChannelWriter(port, encode, on_full) as writer:
        yield writer
