"""An application message as MQTT carries it, and the callbacks that take one or report its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from taktora_trio.connectors.connection import Incoming

__all__ = ["OWN_PACKET_IDS", "Message", "OnDone", "OnMessage"]

OWN_PACKET_IDS = 65_533
"""The first packet identifier that channels do not use: 65533 and 65534 are for presence, 65535 for SUBSCRIBE."""


class Message(Incoming, frozen=True, gc=False):
    """An application message, to or from the broker.

    `reliable` is true of an inbound one with QoS 1 or 2; `delivery_id` is then the broker's packet identifier, and
    `order` the QoS, since PUBACKs go out in the order of the messages, and so do PUBRECs (MQTT-4.6.0-2 and -3).
    `redelivered` is the flag DUP, both ways (section 3.3.1.1). `retained` says that the broker is to keep it, or had
    kept it. `metadata` and `correlation_id` are properties of MQTT 5: 3.1.1 has none, and does not send them.
    """

    qos: int = 0


OnMessage: TypeAlias = Callable[[Message], None]
"""Called with each message from the broker."""
OnDone: TypeAlias = Callable[[int, str], None]
"""Called with the packet identifier and the name of the reason for which the broker refused the message; the name is
empty if the broker took it."""
