"""The state that a client keeps from one connection to the next."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions.endpoints import EndpointOrder
from taktora_trio.connectors.mqtt.wire.packet_ids import PacketIds
from taktora_trio.connectors.mqtt.wire.state import SessionState
from taktora_trio.digest import sha256

__all__ = ["ClientState", "client_state"]


class ClientState(msgspec.Struct, frozen=True):
    """The session's state and the order of addresses. Give the same object to each connection of a client."""

    session: SessionState = msgspec.field(default_factory=SessionState)
    """MQTT's session state: messages that are not acknowledged, exchanges that are half done."""
    endpoints: EndpointOrder = msgspec.field(default_factory=EndpointOrder)
    """The order in which the broker's addresses are tried."""


def client_state(options: MqttOptions, memory: Callable[[str, int], memoryview], packet_ids: str = "") -> ClientState:
    """Return a state of which the part that the next gateway must know lies in memory that outlives this one.

    `memory` is `GatewayChannels.memory`. Each broker and client id has a memory of its own, as it has a session.
    `packet_ids` says which channel uses which: what is known of an identifier is not true of another message's.
    """
    if not options.persistent:
        return ClientState()
    broker = options.broker
    address = broker.path if broker.transport == "unix" else f"{broker.host}:{broker.port}"
    session = sha256(f"{address}\n{options.client_id}".encode()).hexdigest()[:20]
    channels = sha256(f"{session}\n{packet_ids}".encode()).hexdigest()[:20]
    received, released = (
        PacketIds(memory(name, PacketIds.SIZE)) for name in (f"received-{session}", f"released-{channels}")
    )
    return ClientState(SessionState(received, released))
