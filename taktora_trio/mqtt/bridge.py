"""The gateway half of the MQTT connector: channels on one side, a session on the other.

Outbound, each channel has a pump that publishes in order, up to `max_inflight` at once, and publishes again on the
next connection what the last one did not acknowledge. Inbound, a message is matched locally and goes to every channel
whose filter matches: into shared memory at once, or through a bounded backlog while the app is slow.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs
import trio
from trio_util import move_on_when

from taktora_trio.channel import ChannelDescriptor, Header
from taktora_trio.connector import GatewayChannels, PayloadSink, PayloadSource
from taktora_trio.errors import BackPressure, ConnectorError, PayloadOverflow, TransportError, leaves
from taktora_trio.health import Connecting, Down, HealthBoard, Up
from taktora_trio.mqtt.routing import MqttRouting
from taktora_trio.mqtt.sessions import open_session
from taktora_trio.mqtt.sessions.session import ConnectFailed, ConnectRefused, Message, Session, SessionLost
from taktora_trio.mqtt.topics import FilterTree, minimal_filters

if TYPE_CHECKING:
    from taktora_trio.mqtt.connector import MqttConnector

__all__ = ["InboundMessages", "OutboundPump", "serve_bridge"]

log = logging.getLogger(__name__)

_DEGRADED_FOR = 5.0  # seconds for which a discarded message shows in the health
_MESSAGE_OVERHEAD = 256  # bytes that a message in the backlog costs besides its payload and topic


async def serve_bridge(
    connector: MqttConnector, channels: GatewayChannels, health: HealthBoard, stop: trio.Event
) -> None:
    """Carry messages both ways until `stop` is set; then publish what is queued, disconnect, and return.

    Connects again and again, with backoff, unless the broker refuses the client for good.
    """
    options, name = connector.options, connector.name
    if options.client_id is None and channels.name:
        # Not made up anew each time: by its name the broker knows an incarnation's successor, and closes the
        # connection that a stale one may still have (MQTT 3.1.1, section 3.1.4-2).
        options = attrs.evolve(options, client_id=channels.name)
    inbound = InboundMessages(connector, channels.inbound, health)
    pumps = [
        OutboundPump(channel, channels.outbound[channel.name], options.max_inflight)
        for channel in connector.channels
        if channel.direction == "out"
    ]
    channels.duties.extend(pump.stalled for pump in pumps)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbound.serve)
        delays = options.reconnect.delays()
        while not stop.is_set():
            health.report(name, Connecting())
            failure: ConnectorError | None = None
            try:
                async with move_on_when(stop.wait), open_session(options, inbound.deliver) as session:
                    await session.subscribe(inbound.filters)
                    log.info("%s: connected to %s", name, options.broker)
                    health.report(name, Up())
                    delays = options.reconnect.delays()
                    failure = await _carry(session, pumps, stop, options.drain_timeout)
            except* (ConnectFailed, ConnectRefused, SessionLost) as group:
                failure = cast(ConnectorError, leaves(group)[0])
            if stop.is_set() or failure is None:
                continue
            if isinstance(failure, ConnectRefused):
                log.error("%s: %s: %s; it is not tried again", name, options.broker, failure)
                health.report(name, Down(str(failure)), failure)
                await stop.wait()
                continue
            delay = next(delays)
            verb = "lost" if isinstance(failure, SessionLost) else "cannot reach"
            log.warning("%s: %s %s: %s; trying again in %.1f s", name, verb, options.broker, failure, delay)
            health.report(name, Connecting(), failure)
            async with move_on_when(stop.wait):
                await trio.sleep(delay)
        health.report(name, Down("the gateway was stopped"))
        for pump in pumps:
            pump.log_unpublished()
        inbound.log_undelivered()
        nursery.cancel_scope.cancel()


async def _carry(session: Session, pumps: list[OutboundPump], stop: trio.Event, drain_timeout: float) -> SessionLost:
    """Run the pumps until the session is lost. When cancelled by a stop, drain them first."""
    try:
        async with trio.open_nursery() as nursery:
            for pump in pumps:
                nursery.start_soon(pump.run, session)
            lost = await session.wait_until_lost()
            nursery.cancel_scope.cancel()
        return lost
    finally:
        if stop.is_set():
            # What the app has sent before it stopped is still to be published, and this is the last chance.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + drain_timeout):
                async with move_on_when(session.wait_until_lost), trio.open_nursery() as nursery:
                    for pump in pumps:
                        nursery.start_soon(pump.drain, session)


@attrs.define(eq=False)
class _InFlight:
    message: Message
    header: Header
    done: bool = False


class OutboundPump:
    """Publishes one channel, in order. Lives as long as the gateway; a session is lent to it."""

    def __init__(self, channel: ChannelDescriptor[Any], source: PayloadSource, max_inflight: int) -> None:
        self._channel = channel
        self._routing = cast(MqttRouting, channel.routing)
        self._source = source
        self._max_inflight = max_inflight
        self._inflight: deque[_InFlight] = deque()
        self._progress = trio.Event()
        self._has_session = False
        self._taken = self._taken_before = 0

    async def run(self, session: Session) -> None:
        """Publish until cancelled; first of all what an earlier session did not acknowledge."""
        for item in list(self._inflight):  # a copy: `done` may be called while we publish
            if not item.done:
                self._publish(session, item)
        self._has_session = True
        try:
            while True:
                if self._take(session, self._max_inflight):
                    await trio.lowlevel.checkpoint()  # once a batch: other channels and the socket have a turn
                elif len(self._inflight) >= self._max_inflight:
                    await self._wait_for_progress()
                else:
                    await self._source.wait()
        finally:
            self._has_session = False

    def stalled(self) -> str | None:
        """Said if there is something to publish, nothing in the way, and no progress since this was asked last."""
        before, self._taken_before = self._taken_before, self._taken
        able = self._has_session and self._source.is_behind and len(self._inflight) < self._max_inflight
        return (
            f"channel {self._channel.name}: messages wait, and none is taken"
            if able and self._taken == before
            else None
        )

    async def drain(self, session: Session) -> None:
        """Publish what is queued now, and return when all of it is acknowledged."""
        left = self._channel.window  # an app that goes on sending must not keep us here
        while left > 0:
            taken = self._take(session, left)
            left -= taken
            if not taken:
                if len(self._inflight) < self._max_inflight:
                    break  # nothing more is queued
                await self._wait_for_progress()
        while self._inflight:
            await self._wait_for_progress()

    def log_unpublished(self) -> None:
        if self._inflight:
            log.warning(
                "channel %s: stopped with %d messages not acknowledged by the broker",
                self._channel.name,
                len(self._inflight),
            )

    def _take(self, session: Session, limit: int) -> int:
        """Publish up to `limit` queued messages, as many as may be in flight; no await, so none gets lost."""
        taken = 0
        while taken < limit and len(self._inflight) < self._max_inflight:
            try:
                received = self._source.receive_nowait()
            except trio.WouldBlock:
                break
            except TransportError as exc:
                log.error("channel %s: %s", self._channel.name, exc)
                continue
            taken += 1
            self._taken += 1
            topic = received.topic if self._routing.is_pattern else self._routing.topic
            message = Message(topic, received.value, self._routing.qos, self._routing.retain)
            item = _InFlight(message, received.header)
            self._inflight.append(item)
            self._publish(session, item)
        return taken

    def _publish(self, session: Session, item: _InFlight) -> None:
        def done() -> None:
            item.done = True
            last: Header | None = None
            while self._inflight and self._inflight[0].done:
                last = self._inflight.popleft().header
            if last is not None:
                self._source.acknowledge(last)
            self._progress.set()

        session.publish(item.message, done)

    async def _wait_for_progress(self) -> None:
        await self._progress.wait()
        self._progress = trio.Event()


class InboundMessages:
    """Delivers what comes from the broker to every channel whose filter matches."""

    def __init__(self, connector: MqttConnector, sinks: Mapping[str, PayloadSink], health: HealthBoard) -> None:
        self._name = connector.name
        self._health = health
        self._limit = connector.options.inbound_backlog
        self._backlog_bytes = 0
        self.discarded = 0
        channels = [channel for channel in connector.channels if channel.direction == "in"]
        self._deliveries = [_Delivery(channel, sinks[channel.name]) for channel in channels]
        self._tree = FilterTree(
            (channel.routing.address, d) for channel, d in zip(channels, self._deliveries, strict=True)
        )
        wanted: dict[str, int] = {}
        for channel in channels:
            routing = cast(MqttRouting, channel.routing)
            wanted[routing.subscription] = max(routing.qos, wanted.get(routing.subscription, 0))
        self.filters = minimal_filters(wanted)

    def deliver(self, message: Message) -> None:
        """Called by the session for each message, in order; never waits."""
        for delivery in self._tree.match(message.topic):
            if not delivery.backlog:
                try:
                    delivery.sink.send_nowait(message.payload, topic=delivery.topic_of(message))
                    continue
                except BackPressure:
                    pass
                except PayloadOverflow as exc:
                    self._discard(delivery, f"a message on {message.topic!r} is too large: {exc}")
                    continue
            size = len(message.payload) + len(message.topic) + _MESSAGE_OVERHEAD
            if self._backlog_bytes + size > self._limit:
                self._discard(delivery, f"the app is too slow, and the backlog of {self._limit} bytes is full")
                continue
            self._backlog_bytes += size
            delivery.backlog.append((message, size))
            delivery.more.set()

    async def serve(self) -> None:
        """Serve: bring each channel's backlog into shared memory as the app makes room. Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            for delivery in self._deliveries:
                nursery.start_soon(self._serve_backlog, delivery)

    async def _serve_backlog(self, delivery: _Delivery) -> None:
        while True:
            await delivery.more.wait()
            delivery.more = trio.Event()
            while delivery.backlog:
                message, size = delivery.backlog[0]
                try:
                    await delivery.sink.send(message.payload, topic=delivery.topic_of(message))
                except PayloadOverflow as exc:
                    self._discard(delivery, f"a message on {message.topic!r} is too large: {exc}")
                # Only now: while the backlog is not empty, newer messages queue behind it.
                delivery.backlog.popleft()
                self._backlog_bytes -= size

    def log_undelivered(self) -> None:
        for delivery in self._deliveries:
            if delivery.backlog:
                log.warning(
                    "channel %s: stopped with %d inbound messages that the app had no room for",
                    delivery.channel.name,
                    len(delivery.backlog),
                )

    def _discard(self, delivery: _Delivery, reason: str) -> None:
        self.discarded += 1
        delivery.discarded += 1
        count = delivery.discarded
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...: a flood must not flood the log
            log.error("channel %s: discarded %d inbound messages so far: %s", delivery.channel.name, count, reason)
        self._health.degrade(self._name, f"channel {delivery.channel.name} discards inbound messages", _DEGRADED_FOR)


class _Delivery:
    def __init__(self, channel: ChannelDescriptor[Any], sink: PayloadSink) -> None:
        self.channel = channel
        self.sink = sink
        self.backlog: deque[tuple[Message, int]] = deque()
        self.more = trio.Event()
        self.discarded = 0
        self._is_pattern = channel.routing.is_pattern

    def topic_of(self, message: Message) -> str:
        return message.topic if self._is_pattern else ""
