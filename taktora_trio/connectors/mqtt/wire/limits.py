"""The limits that a broker announces in CONNACK (MQTT 5, section 3.2.2.3). Every session keeps to them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from taktora_trio.connectors.mqtt.topics import is_pattern, split_share
from taktora_trio.connectors.mqtt.wire.reasons import reason_name

__all__ = ["NO_LIMITS", "BrokerLimits", "limits_of"]

log = logging.getLogger(__name__)


class BrokerLimits(msgspec.Struct, frozen=True):
    """The limits of one connection. The defaults are those of MQTT 3.1.1, which announces none.

    A message beyond them is refused here, with the reason that the broker would give. If it were sent, the broker would
    end the connection, and each later one, since the message is sent again. No message is made to fit: at a lower QoS,
    or not retained, it would be another message than the app has sent.
    """

    receive_maximum: int = 65_535
    """The number of messages of QoS 1 and 2, of all channels together, that may be in flight."""
    of_qos_2: int = 19
    """The number of these that may be of QoS 2, including exchanges that earlier connections left half done.

    With MQTT 3.1.1 a broker can't say how many it takes, nor that it has not taken one: mosquitto drops those beyond
    its `max_inflight_messages` (20), and answers as if it had taken them. The default is one less, for while mosquitto
    has as many as it takes, it drops messages of QoS 1, too."""
    maximum_qos: int = 2
    retain_available: bool = True
    maximum_packet_size: int = 268_435_460
    """The largest whole packet in bytes; by default the largest that its length field can state (section 1.5.5)."""
    wildcards_available: bool = True
    shared_available: bool = True
    keepalive: int | None = None
    """The seconds that the broker wants instead of those asked for (section 3.2.2.3.14)."""
    session_expiry: int | None = None
    """The seconds for which the broker keeps the session, if not those asked for (section 3.2.2.3.2)."""

    @property
    def largest_length(self) -> int:
        """The largest remaining length of a packet. Its first byte and the length field count in its size, too."""
        return max(min(self.maximum_packet_size - 1 - n, 128**n - 1) for n in (1, 2, 3, 4))

    def refusal(self, length: int, qos: int, retain: bool) -> str:
        """Return why the broker would not take a PUBLISH of this remaining length; empty if it would."""
        if length > self.largest_length:
            return f"{reason_name(0x95)}: the broker takes at most {self.maximum_packet_size} bytes"
        if qos > self.maximum_qos:
            return f"{reason_name(0x9B)}: the broker takes at most QoS {self.maximum_qos}"
        if retain and not self.retain_available:
            return reason_name(0x9A)
        return ""

    def subscription_refusal(self, topic_filter: str) -> str:
        """Return why the broker would not take this subscription; empty if it would."""
        group, plain = split_share(topic_filter)
        if group and not self.shared_available:
            return reason_name(0x9E)
        if is_pattern(plain) and not self.wildcards_available:
            return reason_name(0xA2)
        return ""

    def warn_of_expiry(self, asked: int) -> None:
        """Log a warning if the broker keeps the session for less than the seconds asked for."""
        if self.session_expiry is not None and self.session_expiry < asked:
            log.warning(
                "the broker keeps the session for %d s without a connection, not for %d s",
                self.session_expiry,
                asked,
                extra={"event": "session-shortened"},
            )


NO_LIMITS = BrokerLimits()


def limits_of(properties: Mapping[int, Any]) -> BrokerLimits:
    """Read the limits from the properties of a CONNACK. Raises `ValueError` for values that the standard forbids."""
    receive_maximum = properties.get(0x21, NO_LIMITS.receive_maximum)
    limits = BrokerLimits(
        receive_maximum=receive_maximum,
        of_qos_2=max(1, receive_maximum - 1),
        maximum_qos=properties.get(0x24, NO_LIMITS.maximum_qos),
        retain_available=bool(properties.get(0x25, 1)),
        maximum_packet_size=properties.get(0x27, NO_LIMITS.maximum_packet_size),
        wildcards_available=bool(properties.get(0x28, 1)),
        shared_available=bool(properties.get(0x2A, 1)),
        keepalive=properties.get(0x13),
        session_expiry=properties.get(0x11),
    )
    if not limits.receive_maximum:
        raise ValueError("a receive maximum of 0")
    if not limits.maximum_packet_size:
        raise ValueError("a maximum packet size of 0")
    return limits
