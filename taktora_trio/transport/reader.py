"""ChannelReader: the app's end of an inbound channel, a trio `ReceiveChannel`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import attrs
import iceoryx2 as iox2
import trio

from taktora_trio.channels import Header, Received, Routing
from taktora_trio.channels.codec import Buffer, PayloadCodec
from taktora_trio.errors import CodecError, MessageError, TransportError
from taktora_trio.transport.ports import CHECKPOINT_EVERY, EnvelopeSubscriber, open_envelope_subscriber
from taktora_trio.transport.services import ServiceSpec

__all__ = ["ChannelReader", "ReaderStatistics", "open_reader"]

T = TypeVar("T")


@attrs.frozen
class ReaderStatistics:
    """Counts since the reader was opened."""

    received: int


class ChannelReader(trio.abc.ReceiveChannel[Received[T]]):
    """Receives messages of one type. Use `host.open_reader(channel)` to get one.

    `async for received in reader` goes on until the reader is closed. A payload that can't be decoded raises
    `CodecError` there, with its topic, and so does a corrupt envelope with `TransportError`: catch it and go on with
    the same reader, the next message is not lost.
    """

    def __init__(
        self,
        port: EnvelopeSubscriber,
        decode: Callable[[Buffer], T],
        topic: str,
        *,
        acknowledge: bool = True,
        decode_on: Callable[[Buffer, str], T] | None = None,
        published_by: Routing | None = None,
    ) -> None:
        self._port = port
        self._acknowledge = acknowledge
        self._decode = decode
        self._decode_on = decode_on
        self._published_by = published_by
        self._topic = topic
        self._closed = False

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"ChannelReader({self._port.spec.name!r}, received={self._port.received}{closed})"

    async def receive(self) -> Received[T]:
        """Wait for the next message. Raises `trio.ClosedResourceError`, also when closed while waiting.

        Only one task may wait at a time; a second one gets `trio.BusyResourceError`.
        """
        received = self._open(await self._next())
        if self._port.received % CHECKPOINT_EVERY == 0:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return received

    def receive_nowait(self) -> Received[T]:
        """The next message. Raises `trio.WouldBlock` if there is none."""
        sample = self._take()
        if sample is None:
            raise trio.WouldBlock
        return self._open(sample)

    async def wait(self) -> None:
        """Wait until `receive_nowait` may have something."""
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._port.data.wait()
        self._port.data.clear()

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncIterator[Received[memoryview]]:
        """Wait for the next message and look at its payload in shared memory, with no copy and no codec.

            async with reader.borrow() as received:
                digest.update(received.value)

        The view is read-only and ends with the block: do not keep it, nor slices of it.
        """
        sample = await self._next()
        try:
            header, payload, topic, metadata = self._port.open(sample, acknowledge=self._acknowledge)
            view = payload.toreadonly()
            try:
                yield Received(view, header, topic or self._topic, metadata)
            finally:
                view.release()
        finally:
            sample.delete()

    @property
    def is_closed(self) -> bool:
        """Whether it can no longer be received from."""
        return self._closed

    @property
    def is_behind(self) -> bool:
        """Whether something was sent that has not been received yet."""
        return self._port.is_behind

    @property
    def unacknowledged(self) -> int:
        """How many messages were sent that nobody has acknowledged."""
        return self._port.unacknowledged

    @property
    def has_writer(self) -> bool:
        """Whether the other end is open."""
        return self._port.has_writer

    @property
    def begun_before(self) -> int:
        """The sequence number of the last message that a reader before this one has begun to pass on."""
        return self._port.begun_before

    def tell(self) -> None:
        """Wake whoever waits at the other end for somebody to come."""
        self._port.tell()

    def begin(self, header: Header) -> None:
        """Write down that this one is about to be passed on, so that the next reader knows; in order."""
        if not self._closed:
            self._port.begin(header.sequence_number)

    def acknowledge(self, header: Header) -> None:
        """All up to this message is done with; for a reader that was opened to be told so."""
        if not self._closed:
            self._port.acknowledge(header.sequence_number)

    def statistics(self) -> ReaderStatistics:
        return ReaderStatistics(received=self._port.received)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._port.data.interrupt()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    async def _next(self) -> iox2.Sample:
        await trio.lowlevel.checkpoint_if_cancelled()
        sample = self._take()
        while sample is None:
            self._port.data.clear()
            sample = self._take()
            if sample is None:
                await self._port.data.wait()
                sample = self._take()
        return sample

    def _take(self) -> iox2.Sample | None:
        if self._closed:
            raise trio.ClosedResourceError("this reader was closed")
        return self._port.take()

    def _open(self, sample: iox2.Sample) -> Received[T]:
        topic = self._topic
        try:
            header, payload, concrete, metadata = self._port.open(sample, acknowledge=self._acknowledge)
            if concrete:
                topic = concrete
                if self._published_by is not None:
                    self._published_by.check_topic(concrete)
                if self._decode_on is not None:
                    return Received(self._decode_on(payload, concrete), header, topic, metadata)
            if metadata is not None and self._published_by is not None:
                self._published_by.check_metadata(metadata)
            return Received(self._decode(payload), header, topic, metadata)
        except CodecError as exc:
            raise CodecError(f"a message on {topic!r} can't be decoded: {exc}", topic=topic) from exc
        except MessageError as exc:
            raise TransportError(f"an envelope was discarded: {exc}") from exc
        finally:
            sample.delete()


@contextlib.asynccontextmanager
async def open_reader(
    node: iox2.Node,
    spec: ServiceSpec,
    message_type: type[T],
    codec: PayloadCodec,
    topic: str,
    *,
    acknowledge: bool = True,
    routing: Routing | None = None,
    published_by: Routing | None = None,
) -> AsyncIterator[ChannelReader[T]]:
    """The reader of a channel; `topic` is what an envelope without one was published on.

    A message is acknowledged when it is received, or, with `acknowledge=False`, when the reader is told: until then it
    takes up room in the window, and a reader that is opened later receives it again. By its `routing` a message may
    have fields from its topic. What can't be published by the routing `published_by` is a `TransportError`.
    """
    decode = codec.decoder(message_type)
    decode_on = _filling_decoder(routing, message_type, codec) if routing is not None else None
    async with (
        open_envelope_subscriber(node, spec) as port,
        ChannelReader(
            port, decode, topic, acknowledge=acknowledge, decode_on=decode_on, published_by=published_by
        ) as reader,
    ):
        yield reader


def _filling_decoder(routing: Routing, message_type: type[T], codec: PayloadCodec) -> Callable[[Buffer, str], T] | None:
    fields_of = routing.fields_of(message_type)
    if fields_of is None:
        return None
    decode = codec.filling_decoder(message_type)
    return lambda payload, topic: decode(payload, fields_of(topic))
