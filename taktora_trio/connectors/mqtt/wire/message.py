"""An application message as MQTT carries it, and the callbacks that take one or report its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from taktora_trio.channels import Metadata

__all__ = ["OWN_PACKET_IDS", "Message", "OnDone", "OnMessage"]

OWN_PACKET_IDS = 65_533
"""From here on packet identifiers are not for channels: 65533 and 65534 for presence, 65535 for the session itself."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """An application message, to or from the broker."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    metadata: Metadata | None = None
    """MQTT 5 properties; 3.1.1 has none, and does not send them."""
    packet_id: int = 0
    """Inbound at QoS 1 and 2: the broker's identifier, by which it is acknowledged."""
    dup: bool = False
    """Perhaps sent before (section 3.3.1.1)."""
    skipped: int = 0
    """Inbound: bytes of a payload that is larger than any channel takes; they were not kept, `payload` is empty."""
    correlation_data: bytes = b""
    """The one property of MQTT 5 that is no metadata but a correlation id."""


OnMessage: TypeAlias = Callable[[Message], None]
"""Called with each message from the broker."""
OnDone: TypeAlias = Callable[[int, str], None]
"""Called with the packet identifier, and why the broker refused the message, by name; empty if it did not."""
