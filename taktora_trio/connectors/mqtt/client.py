"""MQTT's side of a gateway: what outlives its connections to a broker."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from taktora_trio.channels import ChannelDescriptor, Envelope
from taktora_trio.connectors.connection import Client, Guarantee, OnMessage
from taktora_trio.connectors.mqtt.connection import MqttConnection
from taktora_trio.connectors.mqtt.filters import ChannelFilters
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.outbound import outbound_channels
from taktora_trio.connectors.mqtt.presence import with_presence
from taktora_trio.connectors.mqtt.record import record_of
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.connectors.mqtt.sessions.client_state import ClientState, client_state
from taktora_trio.connectors.mqtt.sessions.session import Session, SessionLost
from taktora_trio.connectors.mqtt.subscriptions import Subscriptions
from taktora_trio.connectors.mqtt.topics import FilterTree
from taktora_trio.connectors.mqtt.wire.reasons import TAKEN_OVER
from taktora_trio.escaping import escaped

if TYPE_CHECKING:
    from taktora_trio.connectors.source import Source

__all__ = ["MqttClient", "hint_of_client_id"]

log = logging.getLogger(__name__)

_AGAIN_AND_AGAIN = 3  # connections in a row that were soon over, after which a possible cause is named
_GUARANTEES: tuple[Guarantee, ...] = ("at most once", "at least once", "exactly once")


class MqttClient(Client):
    """One client of one broker: its session's state, subscriptions, presence, and what QoS 2 needs to know."""

    def __init__(
        self,
        name: str,
        declared: Sequence[ChannelDescriptor[Any]],
        options: MqttOptions,
        sources: Mapping[str, Source],
        on_message: OnMessage,
        memory: Callable[[str, int], memoryview],
    ) -> None:
        """`name` is the connector's, for the log; `sources` are the open ends of its outbound channels.

        `memory` is `GatewayChannels.memory`.
        """
        self._name = name
        self._options, self._presence = with_presence(options)
        self._on_message: Callable[[Any], None] = on_message
        outbound = [channel for channel in declared if channel.direction == "out"]
        inbound = [channel for channel in declared if channel.direction == "in"]
        self._outbound = outbound_channels(outbound, options.max_inflight, sources)
        self._of_qos_2 = sum(channel.qos == 2 for channel in self._outbound.values())
        receives_once = any(cast(MqttRouting, channel.routing).qos == 2 for channel in inbound)
        self._state = client_state(self._options, memory) if receives_once else ClientState()
        self._max_payload = max((channel.max_payload for channel in inbound), default=0)
        self._tree = FilterTree((channel.routing.address, channel.name) for channel in inbound)
        self._subscriptions = Subscriptions(name, ChannelFilters(inbound), record_of(self._options))

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[MqttConnection]:
        options = self._presence.applied_to(self._options)
        async with open_session(options, self._on_message, self._state, self._max_payload) as session:
            self._warn_of_qos_2(session)
            yield MqttConnection(session, self._outbound, self._subscriptions, self._presence)

    def channels_of(self, topic: str) -> Iterable[str]:
        return self._tree.match(topic)

    @property
    def address(self) -> str:
        return str(self._options.broker)

    def guarantee(self, channel: str) -> Guarantee:
        return _GUARANTEES[self._outbound[channel].qos]

    def ended(self, failure: Exception) -> None:
        self._presence.ended(failure)

    def revived(self) -> None:
        self._presence.revived()

    def set_aside(self, channel: str, envelope: Envelope) -> None:
        to = self._outbound[channel]
        if to.exactly_once is not None:
            to.exactly_once.set_aside(to.packet_id(envelope.header.sequence_number))

    def hint(self, failure: Exception, losses: int) -> str:
        client_id = self._options.client_id
        return "" if client_id is None else hint_of_client_id(failure, losses, client_id)

    def _warn_of_qos_2(self, session: Session) -> None:
        most = session.limits.of_qos_2
        if self._of_qos_2 > most:
            text = "%s: %d channels of QoS 2, and a broker may drop what is beyond %d messages at once%s"
            way_out = "" if self._options.protocol == "5" else "; with protocol='5' it says how many it takes"
            log.warning(text, self._name, self._of_qos_2, most, way_out)


def hint_of_client_id(failure: Exception, losses: int, client_id: str) -> str:
    """Return the hint that another client may have the same id; empty if nothing speaks for it.

    MQTT 3.1.1 has no word for a client that was thrown out by another, so there it can only be guessed.
    """
    if not isinstance(failure, SessionLost):
        return ""
    if failure.code == TAKEN_OVER:
        return f"another client uses the client id '{escaped(client_id)}'"
    if losses >= _AGAIN_AND_AGAIN and not failure.code and not failure.silent:
        guess = f"soon after it began, {losses} times in a row; does another client use the client id"
        return f"{guess} '{escaped(client_id)}', or does the broker not take what is published?"
    return ""
