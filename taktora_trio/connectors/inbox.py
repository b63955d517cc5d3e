"""Inbox: what comes from the other side goes to every channel that it is for, and is acknowledged when it is safe."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.connection import Connection, Incoming
from taktora_trio.errors import BackPressure, MessageError, PayloadOverflow, is_worth_logging
from taktora_trio.escaping import escaped
from taktora_trio.executor import Context, Executor, when
from taktora_trio.health import HealthBoard

if TYPE_CHECKING:
    from taktora_trio.transport.sink import PayloadSink

__all__ = ["DEGRADED_FOR", "MESSAGE_OVERHEAD", "Inbox"]

log = logging.getLogger(__name__)

DEGRADED_FOR = 5.0  # seconds for which a discarded message shows in the health
MESSAGE_OVERHEAD = 320  # bytes that a message in the backlog takes besides its payload, topic and metadata (measured)
_AT_ONCE = 64  # messages out of the backlog, before other tasks have their turn
_TOPICS = 4096  # for so many topics it is remembered which channels they go to,
_SHORT = 256  # if they have at most so many characters: topics may be long, and the other side chooses them
_PROPERTY = sys.getsizeof(("", "")) + 8  # bytes that a user property costs besides its strings


class Inbox:
    """Delivers what comes from the other side to every channel that it is for. It lives as long as the gateway.

    A message goes into shared memory at once, or through a bounded backlog while the app is slow. A reliable one is
    acknowledged when it is in shared memory for every channel, and never discarded for want of room: when the backlog
    is full, no more is read from the other side.
    """

    def __init__(
        self,
        connector: str,
        sinks: Iterable[tuple[ChannelDescriptor[Any], PayloadSink]],
        channels_of: Callable[[str], Iterable[str]],
        backlog: int,
        health: HealthBoard,
    ) -> None:
        """`channels_of(topic)` returns the names of the channels that a message is for; `backlog` is in bytes."""
        self.discarded = 0
        """Counts messages that were discarded, for want of room or since they can't be carried."""
        self.strays = 0
        """Counts messages that came and that no channel is for."""
        self._name = connector
        self._channels_of = channels_of
        self._limit = backlog
        self._health = health
        self._backlog_bytes = 0
        self._connection: Connection | None = None
        self._has_paused = False
        self._stray = ""
        self._deliveries = {channel.name: _Delivery(channel, sink) for channel, sink in sinks}
        self._matching: dict[str, list[_Delivery]] = {}

    def attach(self, connection: Connection) -> None:
        """Send acknowledgements to this connection from now on. It is not read where the backlog is still full."""
        self._connection = connection
        if self._has_paused:
            connection.pause_reading()

    def deliver(self, message: Incoming) -> None:
        """Take a message from the connection. Call it in order; it never waits."""
        deliveries = self._matching.get(message.topic)
        if deliveries is None:
            deliveries = self._match(message.topic)
        if not deliveries:
            self._tell_stray(message)
        waiting = [d for d in deliveries if d.backlog or not self._send(d, message)]
        if waiting:
            self._keep(message, waiting)
        elif message.reliable:
            self._acknowledge(message)

    def add_items(self, executor: Executor, name: Callable[[str], str]) -> None:
        """Add an item for each channel, which brings its backlog into shared memory as the app makes room."""
        for channel, delivery in self._deliveries.items():
            executor.add(partial(self._serve_backlog, delivery), when(delivery.wait), name=name(channel))

    def log_undelivered(self) -> None:
        """Log at the end how many messages the app has not had. Those not acknowledged come again."""
        for channel, delivery in self._deliveries.items():
            kept = sum(kept.message.reliable for kept in delivery.backlog)
            lost = len(delivery.backlog) - kept + delivery.sink.unread
            if lost or kept:
                text = "channel %s: stopped with %d inbound messages that the app has not had: %d are lost, %s"
                log.warning(text, channel, lost + kept, lost, f"{kept} are not acknowledged to the other side")

    def _match(self, topic: str) -> list[_Delivery]:
        deliveries = [self._deliveries[name] for name in self._channels_of(topic)]
        if len(topic) <= _SHORT:
            if len(self._matching) >= _TOPICS:
                self._matching.clear()
            self._matching[topic] = deliveries
        return deliveries

    def _send(self, delivery: _Delivery, message: Incoming) -> bool:
        """Send it to the channel, or discard it if it can never be sent. Returns false if the channel has no room."""
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
        except MessageError as exc:
            self._discard_unfit(delivery, message, exc)
        return True

    def _keep(self, message: Incoming, waiting: list[_Delivery]) -> None:
        size = _size(message)
        kept = _Kept(message, size, len(waiting))
        for delivery in waiting:
            if self._backlog_bytes + size > self._limit:
                if not message.reliable:
                    self._discard(delivery, f"the app is too slow, and the backlog of {self._limit} bytes is full")
                    continue
                self._pause_reading(delivery)
            self._backlog_bytes += size
            delivery.backlog.append(kept)
            delivery.more.set()

    async def _serve_backlog(self, delivery: _Delivery, context: Context[Any]) -> None:
        count = 0
        while delivery.backlog:
            kept = delivery.backlog[0]
            while not self._send(delivery, kept.message):
                await delivery.sink.wait_for_room()
            # Only now: while the backlog is not empty, newer messages queue behind it.
            delivery.backlog.popleft()
            kept.left -= 1
            if not kept.left and kept.message.reliable:
                self._acknowledge(kept.message)
            self._backlog_bytes -= kept.size
            if self._has_paused and self._backlog_bytes <= self._limit // 2:
                self._resume_reading()
            count += 1
            if count % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    def _acknowledge(self, message: Incoming) -> None:
        if self._connection is not None:
            self._connection.acknowledge(message)

    def _pause_reading(self, delivery: _Delivery) -> None:
        if not self._has_paused and self._connection is not None:
            self._has_paused = True
            self._connection.pause_reading()
            reason = f"channel {delivery.name} is not read: no more is taken from the other side"
            log.warning("%s: %s", self._name, reason)
            self._health.degrade(self._name, reason, DEGRADED_FOR)

    def _resume_reading(self) -> None:
        self._has_paused = False
        if self._connection is not None:
            self._connection.resume_reading()

    def _tell_stray(self, message: Incoming) -> None:
        """Count, log and show it. It is acknowledged as any other, else the other side might soon send nothing more."""
        self.strays += 1
        if is_worth_logging(self.strays):  # so that a flood of topics is no flood of reasons either
            self._stray = f"messages come that no channel is for, the last on '{escaped(message.topic)}'"
            log.warning(
                "%s: %s; %d so far. Did an earlier version subscribe to it, or does the other side change topics?",
                self._name,
                self._stray,
                self.strays,
            )
        self._health.degrade(self._name, self._stray, DEGRADED_FOR)

    def _discard_unfit(self, delivery: _Delivery, message: Incoming, exc: MessageError) -> None:
        why = "is too large" if isinstance(exc, PayloadOverflow) else "can't be carried"
        self._discard(delivery, f"a message on '{escaped(message.topic)}' {why}: {escaped(str(exc))}")

    def _discard(self, delivery: _Delivery, reason: str) -> None:
        self.discarded += 1
        delivery.discarded += 1
        count = delivery.discarded
        if is_worth_logging(count):
            log.error("channel %s: discarded %d inbound messages so far: %s", delivery.name, count, reason)
        self._health.degrade(self._name, f"channel {delivery.name} discards inbound messages", DEGRADED_FOR)


def _size(message: Incoming) -> int:
    """Return how many bytes of memory a message takes in the backlog, whatever the other side puts into it."""
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

    def __init__(self, message: Incoming, size: int, left: int) -> None:
        self.message, self.size, self.left = message, size, left


class _Delivery:
    """One channel, with the messages that wait until the app makes room."""

    def __init__(self, channel: ChannelDescriptor[Any], sink: PayloadSink) -> None:
        self.name = channel.name
        self.sink = sink
        self.backlog: deque[_Kept] = deque()
        self.more = trio.Event()
        self.discarded = 0
        self.is_pattern = channel.routing.is_pattern

    async def wait(self) -> None:
        """Wait until there is a backlog."""
        await self.more.wait()
        self.more = trio.Event()
