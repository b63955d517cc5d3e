"""The gateway half of the MQTT connector: channels on one side, a session on the other.

Outbound, each channel has a pump that publishes in order, and publishes again on the next connection what the last one
did not acknowledge (`outbound.py`). Inbound, a message is acknowledged when every channel that wants it has it
(`inbound.py`). Here is what both share: the connection, again and again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import attrs
import trio
from trio_util import move_on_when

from taktora_trio.channel import ChannelDescriptor
from taktora_trio.connector import GatewayChannels
from taktora_trio.errors import ConnectorError, leaves
from taktora_trio.executor import Executor, on_message
from taktora_trio.health import Connecting, Down, HealthBoard, Up
from taktora_trio.mqtt.inbound import DEGRADED_FOR, InboundMessages
from taktora_trio.mqtt.options import MqttOptions
from taktora_trio.mqtt.outbound import OutboundPump
from taktora_trio.mqtt.presence import Presence, with_presence
from taktora_trio.mqtt.record import SubscriptionRecord
from taktora_trio.mqtt.routing import MqttRouting
from taktora_trio.mqtt.sessions import open_session
from taktora_trio.mqtt.sessions.session import OWN_PACKET_IDS, ConnectFailed, ConnectRefused, Session, SessionLost
from taktora_trio.mqtt.sessions.state import SessionState
from taktora_trio.mqtt.subscriptions import Subscriptions

if TYPE_CHECKING:
    from taktora_trio.mqtt.connector import MqttConnector

__all__ = ["serve_bridge"]

log = logging.getLogger(__name__)

_FAREWELL = 0.5  # seconds to tell whoever looks at the presence


async def serve_bridge(
    connector: MqttConnector, channels: GatewayChannels, health: HealthBoard, stop: trio.Event
) -> None:
    """Carry messages both ways until `stop` is set; then publish what is queued, disconnect, and return.

    Connects again and again, with backoff, unless the broker refuses the client for good.
    """
    name = connector.name
    options, presence = _complete(connector, channels.name)
    inbound = InboundMessages(connector, channels.inbound, health)
    pumps = _pumps(connector, channels, health)
    subscriptions = Subscriptions(name, inbound.filters, _record(options))
    state, connected = SessionState(), False
    channels.duties.extend(pump.stalled for pump in pumps)
    executor = channels.executor or Executor()
    _add_items(executor, connector, pumps, inbound)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.run)
        delays = options.reconnect.delays()
        while not stop.is_set():
            health.report(name, Connecting())
            failure: ConnectorError | None = None
            try:
                async with (
                    move_on_when(stop.wait),
                    open_session(options, inbound.deliver, state, inbound.max_payload) as session,
                ):
                    connected = True
                    inbound.attach(session)  # before anything can come
                    await subscriptions.renew(session)
                    presence.up(session)
                    log.info("%s: connected to %s", name, options.broker)
                    health.report(name, Up())
                    delays = options.reconnect.delays()
                    failure = await _carry(session, pumps, presence, stop, options.drain_timeout)
            except* (ConnectFailed, ConnectRefused, SessionLost) as group:
                failure = cast(ConnectorError, leaves(group)[0])
            if stop.is_set() or failure is None:
                continue
            if isinstance(failure, ConnectRefused) and not connected and presence.may_be_why(failure):
                presence.give_up(f"{failure}; trying again without it")
                options = attrs.evolve(options, will=None)
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


def _complete(connector: MqttConnector, name: str) -> tuple[MqttOptions, Presence]:
    """The options with what was left open decided."""
    options = connector.options
    if options.client_id is None and name:
        # Not made up anew each time: by its name the broker knows an incarnation's successor, and closes the
        # connection that a stale one may still have (MQTT 3.1.1, section 3.1.4-2).
        options = attrs.evolve(options, client_id=name)
    if options.persistent is None:
        asked = any(cast(MqttRouting, c.routing).qos for c in connector.channels if c.direction == "in")
        options = attrs.evolve(options, persistent=asked)
    if options.client_id is None:
        options = attrs.evolve(options, persistent=False)  # nobody could come back by that name
    return with_presence(options)


def _record(options: MqttOptions) -> SubscriptionRecord | None:
    """Of a session that outlives this process; a broker in memory has none."""
    if not options.persistent or options.client_id is None or options.session == "memory":
        return None
    broker = options.broker
    return SubscriptionRecord(
        options.client_id, broker.path if broker.transport == "unix" else f"{broker.host}:{broker.port}"
    )


def _pumps(connector: MqttConnector, channels: GatewayChannels, health: HealthBoard) -> list[OutboundPump]:
    """One for each outbound channel, and packet identifiers for each that needs them."""
    outbound = [channel for channel in connector.channels if channel.direction == "out"]
    most = max(1, (OWN_PACKET_IDS - 1) // max(1, len(outbound)))
    inflight = min(connector.options.max_inflight, most)

    def refused(channel: str) -> Callable[[str], None]:
        def tell(reason: str) -> None:
            health.degrade(connector.name, f"channel {channel}: the broker refuses messages: {reason}", DEGRADED_FOR)

        return tell

    return [
        OutboundPump(
            channel, channels.outbound[channel.name], inflight, 1 + number * inflight, on_refused=refused(channel.name)
        )
        for number, channel in enumerate(outbound)
    ]


def _add_items(
    executor: Executor, connector: MqttConnector, pumps: list[OutboundPump], inbound: InboundMessages
) -> None:
    """An item for each channel, in one cycle a batch of messages: by these the observers see what the gateway does."""

    def name(channel: ChannelDescriptor[Any]) -> str:
        return f"gateway.{connector.name}.{channel.name}"

    for pump in pumps:
        executor.add(pump.publish_batch, on_message(pump), name=name(pump.channel))
    inbound.add_items(executor, name)


async def _carry(
    session: Session, pumps: list[OutboundPump], presence: Presence, stop: trio.Event, drain_timeout: float
) -> SessionLost:
    """Let the pumps publish until the session is lost. When cancelled by a stop, drain them first."""
    try:
        with contextlib.ExitStack() as lent:
            for pump in pumps:
                lent.enter_context(pump.publishing(session))
            return await session.wait_until_lost()
    finally:
        if stop.is_set():
            # What the app has sent before it stopped is still to be published, and this is the last chance.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + drain_timeout):
                async with move_on_when(session.wait_until_lost), trio.open_nursery() as nursery:
                    for pump in pumps:
                        nursery.start_soon(pump.drain, session)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _FAREWELL):
                await presence.down(session)
