"""Inbound: what comes from the broker goes to every channel whose filter matches, and is acknowledged when safe."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.mqtt.sessions.session import Message, Session
from taktora_trio.connectors.mqtt.topics import FilterTree
from taktora_trio.errors import BackPressure, PayloadOverflow, is_telling
from taktora_trio.escaping import escaped
from taktora_trio.executor import Context, Executor, on_message
from taktora_trio.health import HealthBoard

if TYPE_CHECKING:
    from taktora_trio.connectors.mqtt.connector import MqttConnector
    from taktora_trio.transport.sink import PayloadSink

__all__ = ["MESSAGE_OVERHEAD", "InboundMessages"]

log = logging.getLogger(__name__)

DEGRADED_FOR = 5.0  # seconds for which a discarded message shows in the health
MESSAGE_OVERHEAD = 320  # bytes that a message in the backlog takes besides its payload, topic and metadata (measured)
_AT_ONCE = 64  # messages out of the backlog, before other tasks have their turn
_TOPICS = 4096  # for so many topics it is remembered which channels they go to,
_SHORT = 256  # if they have at most so many characters: a topic may have 65,535 bytes, and the broker chooses it
_PROPERTY = sys.getsizeof(("", "")) + 8  # bytes that a user property costs besides its strings


class InboundMessages:
    """Delivers what comes from the broker to every channel whose filter matches.

    A message goes into shared memory at once, or through a bounded backlog while the app is slow. One with QoS 1 or 2
    is acknowledged when it is in shared memory for every channel, and never discarded for want of room: when the
    backlog is full, no more is taken from the broker.
    """

    def __init__(self, connector: MqttConnector, sinks: Mapping[str, PayloadSink], health: HealthBoard) -> None:
        self._name = connector.name
        self._health = health
        self._limit = connector.options.inbound_backlog
        self._backlog_bytes = 0
        self._session: Session | None = None
        self._holds = False
        self.discarded = 0
        self.strays = 0
        """How many messages came that no channel is for."""
        self._stray = ""
        channels = [channel for channel in connector.channels if channel.direction == "in"]
        self.max_payload = max((channel.max_payload for channel in channels), default=0)
        self._deliveries = [_Delivery(channel, sinks[channel.name]) for channel in channels]
        self._tree = FilterTree(
            (channel.routing.address, d) for channel, d in zip(channels, self._deliveries, strict=True)
        )
        self._matching: dict[str, list[_Delivery]] = {}

    def attach(self, session: Session) -> None:
        """From now on this is where acknowledgements go."""
        self._session = session
        if self._holds:
            session.pause_reading()

    def deliver(self, message: Message) -> None:
        """Called by the session for each message, in order; never waits."""
        deliveries = self._matching.get(message.topic)
        if deliveries is None:
            deliveries = self._tree.match(message.topic)
            if len(message.topic) <= _SHORT:
                if len(self._matching) >= _TOPICS:
                    self._matching.clear()
                self._matching[message.topic] = deliveries
        if not deliveries:
            self._tell_stray(message)
        waiting = [d for d in deliveries if d.backlog or not self._send_nowait(d, message)]
        if waiting:
            self._keep(message, waiting)
        elif message.qos:
            self._acknowledge(message)

    def add_items(self, executor: Executor, name: Callable[[ChannelDescriptor[Any]], str]) -> None:
        """For each channel one that brings its backlog into shared memory, as the app makes room."""
        for delivery in self._deliveries:
            executor.add(partial(self._serve_backlog, delivery), on_message(delivery), name=name(delivery.channel))

    def log_undelivered(self) -> None:
        """Say at the end what the app has not had. What was not acknowledged, a broker may send again."""
        for delivery in self._deliveries:
            kept = sum(kept.message.qos > 0 for kept in delivery.backlog)
            lost = len(delivery.backlog) - kept + delivery.sink.unread
            if lost or kept:
                told = "channel %s: stopped with %d inbound messages that the app has not had: %d are lost, %s"
                rest = f"{kept} are not acknowledged to the broker"
                log.warning(told, delivery.channel.name, lost + kept, lost, rest)

    def _send_nowait(self, delivery: _Delivery, message: Message) -> bool:
        """Whether nothing more is to be done for it: it is in shared memory, or can never be."""
        topic = message.topic if delivery.is_pattern else ""
        try:
            if message.skipped:
                raise PayloadOverflow(f"{message.skipped} bytes")
            delivery.sink.send_nowait(
                message.payload,
                topic=topic,
                correlation_id=message.correlation_id,
                metadata=message.metadata,
                retained=message.retained,
            )
        except BackPressure:
            return False
        except PayloadOverflow as exc:
            self._discard_oversized(delivery, message, exc)
        return True

    def _keep(self, message: Message, waiting: list[_Delivery]) -> None:
        size = _size(message)
        kept = _Kept(message, size, len(waiting))
        for delivery in waiting:
            if self._backlog_bytes + size > self._limit:
                if message.qos == 0:
                    self._discard(delivery, f"the app is too slow, and the backlog of {self._limit} bytes is full")
                    continue
                self._hold(delivery)
            self._backlog_bytes += size
            delivery.backlog.append(kept)
            delivery.more.set()

    async def _serve_backlog(self, delivery: _Delivery, ctx: Context[None]) -> None:
        count = 0
        while delivery.backlog:
            kept = delivery.backlog[0]
            if not self._send_nowait(delivery, kept.message):
                await self._send(delivery, kept.message)
            # Only now: while the backlog is not empty, newer messages queue behind it.
            delivery.backlog.popleft()
            kept.left -= 1
            if not kept.left and kept.message.qos:
                self._acknowledge(kept.message)
            self._backlog_bytes -= kept.size
            if self._holds and self._backlog_bytes <= self._limit // 2:
                self._go_on()
            count += 1
            if count % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    async def _send(self, delivery: _Delivery, message: Message) -> None:
        topic = message.topic if delivery.is_pattern else ""
        try:
            if message.skipped:
                raise PayloadOverflow(f"{message.skipped} bytes")
            await delivery.sink.send(
                message.payload,
                topic=topic,
                correlation_id=message.correlation_id,
                metadata=message.metadata,
                retained=message.retained,
            )
        except PayloadOverflow as exc:
            self._discard_oversized(delivery, message, exc)

    def _acknowledge(self, message: Message) -> None:
        if self._session is not None:
            self._session.acknowledge(message)

    def _hold(self, delivery: _Delivery) -> None:
        if not self._holds and self._session is not None:
            self._holds = True
            self._session.pause_reading()
            reason = f"channel {delivery.channel.name} is not read: no more is taken from the broker"
            log.warning("%s: %s", self._name, reason)
            self._health.degrade(self._name, reason, DEGRADED_FOR)

    def _go_on(self) -> None:
        self._holds = False
        if self._session is not None:
            self._session.resume_reading()

    def _tell_stray(self, message: Message) -> None:
        """It is acknowledged as any other: else the broker would soon send nothing more (section 4.9)."""
        self.strays += 1
        if is_telling(self.strays):  # so that a flood of topics is no flood of reasons either
            self._stray = f"messages come that no channel is for, the last on '{escaped(message.topic)}'"
            log.warning(
                "%s: %s; %d so far. Did an earlier version subscribe to it, or does the broker change topics?",
                self._name,
                self._stray,
                self.strays,
            )
        self._health.degrade(self._name, self._stray, DEGRADED_FOR)

    def _discard_oversized(self, delivery: _Delivery, message: Message, exc: PayloadOverflow) -> None:
        self._discard(delivery, f"a message on '{escaped(message.topic)}' is too large: {exc}")

    def _discard(self, delivery: _Delivery, reason: str) -> None:
        self.discarded += 1
        delivery.discarded += 1
        count = delivery.discarded
        if is_telling(count):
            log.error("channel %s: discarded %d inbound messages so far: %s", delivery.channel.name, count, reason)
        self._health.degrade(self._name, f"channel {delivery.channel.name} discards inbound messages", DEGRADED_FOR)


def _size(message: Message) -> int:
    """Bytes of memory that a message takes in the backlog, whatever the broker puts into it."""
    topic, metadata = message.topic, message.metadata
    size = len(message.payload) + len(topic) * (1 if topic.isascii() else 4) + MESSAGE_OVERHEAD
    size += len(message.correlation_id)
    if metadata is not None:
        size += sys.getsizeof(metadata.content_type) + sys.getsizeof(metadata.response_topic)
        for name, value in metadata.user_properties:
            size += _PROPERTY + sys.getsizeof(name) + sys.getsizeof(value)
    return size


class _Kept:
    """A message in the backlog of `left` channels."""

    __slots__ = ("left", "message", "size")

    def __init__(self, message: Message, size: int, left: int) -> None:
        self.message, self.size, self.left = message, size, left


class _Delivery(trio.abc.ReceiveChannel[None]):
    """One channel. As the trigger of its item it tells when there is a backlog."""

    def __init__(self, channel: ChannelDescriptor[Any], sink: PayloadSink) -> None:
        self.channel = channel
        self.sink = sink
        self.backlog: deque[_Kept] = deque()
        self.more = trio.Event()
        self.discarded = 0
        self.is_pattern = channel.routing.is_pattern

    async def receive(self) -> None:
        await self.more.wait()
        self.more = trio.Event()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
