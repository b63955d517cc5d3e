"""The state that a client keeps from one connection to the next."""

from __future__ import annotations

import attrs

from taktora_trio.connectors.mqtt.sessions.endpoints import EndpointOrder
from taktora_trio.connectors.mqtt.wire.state import SessionState

__all__ = ["ClientState"]


@attrs.frozen
class ClientState:
    """The session's state and the order of addresses. Give the same object to each connection of a client."""

    session: SessionState = attrs.field(factory=SessionState)
    """MQTT's session state: messages that are not acknowledged, exchanges that are half done."""
    endpoints: EndpointOrder = attrs.field(factory=EndpointOrder)
    """The order in which the broker's addresses are tried."""
