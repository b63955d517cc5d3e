"""ChannelReader: the app's end of an inbound channel, a trio `ReceiveChannel`."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, TypeAlias, TypeVar

import attrs
import trio

from taktora_trio.channels import ChannelDescriptor, Received, Routing
from taktora_trio.channels.codec import Buffer, PayloadCodec
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.plan import channel_spec
from taktora_trio.errors import CodecError, ConfigError, MessageError, TransportError, is_worth_logging, summary
from taktora_trio.escaping import escaped
from taktora_trio.host.rejected import Rejected, RejectedMessages
from taktora_trio.opening import NoPublicConstructor
from taktora_trio.transport.node import Node
from taktora_trio.transport.ports import CHECKPOINT_EVERY, EnvelopeSubscriber, Sample, open_envelope_subscriber

__all__ = ["ChannelReader", "OnError", "ReaderStatistics", "open_reader"]

T = TypeVar("T")
log = logging.getLogger(__name__)

OnError: TypeAlias = Literal["keep", "raise"] | Callable[[Rejected], object]
"""The choices for a message that can't be read: see `ConnectorHost.open_reader`."""


@attrs.frozen
class ReaderStatistics:
    """Counts since the reader was opened."""

    received: int
    """Messages that were read."""
    rejected: int
    """Messages that could not be read."""


class ChannelReader(
    trio.abc.ReceiveChannel[Received[T]], metaclass=NoPublicConstructor, opened_by="host.open_reader(channel)"
):
    """Receives messages of one type. Use `host.open_reader(channel)` to get one.

    `async for received in reader` goes on until the reader is closed. A message that can't be decoded, or whose
    envelope is corrupt, is rejected: `open_reader(..., on_error=...)` says what becomes of it. The next still comes.
    """

    def __init__(
        self,
        port: EnvelopeSubscriber,
        topic: str,
        decode: Callable[[Buffer], T],
        decode_on: Callable[[Buffer, str], T] | None,
        on_error: OnError,
        on_rejected: Callable[[], None],
    ) -> None:
        self._port = port
        self._topic = topic
        self._decode = decode
        self._decode_on = decode_on
        self._on_error = on_error
        self._on_rejected = on_rejected
        self._rejected = 0
        self._kept = RejectedMessages()
        self._has_more = False
        self._closed = False

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"ChannelReader({self._port.spec.name!r}, received={self._received}{closed})"

    async def receive(self) -> Received[T]:
        """Wait for the next message. Raises `trio.ClosedResourceError`, also when closed while waiting.

        Only one task may wait at a time; a second one gets `trio.BusyResourceError`.

        Each call is a checkpoint for cancellation, and a cancelled one has taken nothing. It lets other tasks run
        whenever it waits, and at every 32nd message. Otherwise a message that is there already is returned at once,
        since letting others run costs as much as the message.
        """
        while (received := self._open(await self._next())) is None:
            await trio.lowlevel.checkpoint()
        if self._port.received % CHECKPOINT_EVERY == 0:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return received

    def receive_nowait(self) -> Received[T]:
        """Return the next message. Raises `trio.WouldBlock` if there is none, or if those looked at are rejected."""
        sample = self._take()
        if sample is None:
            raise trio.WouldBlock
        received = self._open(sample)
        return self._receive_behind() if received is None else received

    async def wait(self) -> None:
        """Wait until `receive_nowait` may have something."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._has_more:
            self._has_more = False
            await trio.lowlevel.checkpoint()
            return
        await self._port.data.wait()
        self._port.data.clear()

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncIterator[Received[memoryview]]:
        """Wait for the next message and look at its payload in shared memory, with no copy and no codec.

            async with reader.borrow() as received:
                digest.update(received.value)

        The view is read-only and ends with the block: do not keep it, nor slices of it.
        """
        while True:
            sample = await self._next()
            try:
                try:
                    header, payload, topic, metadata = self._port.open(sample, acknowledge=True)
                except TransportError as exc:
                    self._reject(exc, self._topic, self._port.first_bytes(sample))
                else:
                    view = payload.toreadonly()
                    try:
                        yield Received(view, header, topic or self._topic, metadata)
                    finally:
                        view.release()
                    return
            finally:
                sample.delete()
            await trio.lowlevel.checkpoint()

    @property
    def is_closed(self) -> bool:
        """True if it can no longer be received from."""
        return self._closed

    @property
    def is_behind(self) -> bool:
        """True if something was sent that has not been received yet."""
        return self._port.is_behind

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """The last messages that could not be read, the newest last: 32 at most, with 64 KiB of payload in all.

        Empty unless the reader was opened with `on_error="keep"`, which is the default.
        """
        return self._kept.kept()

    def statistics(self) -> ReaderStatistics:
        return ReaderStatistics(received=self._received, rejected=self._rejected)

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
        return self._port.received - self._rejected

    async def _next(self) -> Sample:
        await trio.lowlevel.checkpoint_if_cancelled()
        sample = self._take()
        while sample is None:
            self._port.data.clear()
            sample = self._take()
            if sample is None:
                await self._port.data.wait()
                sample = self._take()
        return sample

    def _take(self) -> Sample | None:
        if self._closed:
            raise trio.ClosedResourceError("this reader was closed")
        return self._port.take()

    def _receive_behind(self) -> Received[T]:
        """Look behind a message that was rejected, but not for ever: a flood of them must not stop the event loop."""
        for _ in range(CHECKPOINT_EVERY):
            sample = self._take()
            if sample is None:
                raise trio.WouldBlock
            if (received := self._open(sample)) is not None:
                return received
        self._has_more = True
        raise trio.WouldBlock

    def _open(self, sample: Sample) -> Received[T] | None:
        """Return the message, or `None` if it was rejected."""
        topic, payload = self._topic, None
        try:
            header, payload, concrete, metadata = self._port.open(sample, acknowledge=True)
            if concrete:
                topic = concrete
                if self._decode_on is not None:
                    return Received(self._decode_on(payload, concrete), header, topic, metadata)
            return Received(self._decode(payload), header, topic, metadata)
        except Exception as exc:  # noqa: BLE001 - an app's own codec runs here, too
            self._reject(exc, topic, self._port.first_bytes(sample) if payload is None else payload)
            return None
        finally:
            sample.delete()

    def _reject(self, exc: Exception, topic: str, raw: memoryview) -> None:
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
        rejected = Rejected(topic, bytes(raw), error, len(raw))
        if callable(self._on_error):
            self._on_error(rejected)
            return
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


@contextlib.asynccontextmanager
async def open_reader(
    node: Node,
    connector: Connector,
    channel: ChannelDescriptor[T],
    *,
    on_error: OnError = "keep",
    on_rejected: Callable[[], None] = lambda: None,
) -> AsyncIterator[ChannelReader[T]]:
    """Open the reader of a channel, whose service exists. Each message is acknowledged when it is received.

    `on_rejected` is called for each message that is kept because it can't be read.
    """
    is_function = callable(on_error) and not inspect.iscoroutinefunction(on_error)
    if on_error not in ("keep", "raise") and not is_function:
        raise ConfigError(
            f"channel {channel.name!r}: on_error is {on_error!r}; use 'keep', 'raise' or a function that is not async"
        )
    decode = connector.codec.decoder(channel.message_type)
    decode_on = _filling_decoder(channel.routing, channel.message_type, connector.codec)
    async with open_envelope_subscriber(node, channel_spec(connector, channel)) as port:
        reader: ChannelReader[Any] = ChannelReader._create(
            port, channel.routing.address, decode, decode_on, on_error, on_rejected
        )
        async with reader:
            yield reader


def _filling_decoder(routing: Routing, message_type: type[T], codec: PayloadCodec) -> Callable[[Buffer, str], T] | None:
    fields_of = routing.fields_of(message_type)
    if fields_of is None:
        return None
    decode = codec.filling_decoder(message_type)
    return lambda payload, topic: decode(payload, fields_of(topic))
