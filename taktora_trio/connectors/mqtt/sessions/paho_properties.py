"""Converts between paho's properties and reason codes and ours. Pure."""

from __future__ import annotations

from typing import Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from taktora_trio.channels import Metadata
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.wire.message import Message

__all__ = ["code_of", "connack_properties", "connect_properties", "metadata_of", "publish_properties"]

_NOTHING = Metadata()


def code_of(code: Any) -> int:
    """Return the number of a reason code. paho gives those of MQTT 3.1.1 as MQTT 5's, too."""
    return code.value if isinstance(code, ReasonCode) else int(code)


def connack_properties(properties: Any) -> dict[int, Any]:
    """Return the properties of a CONNACK by identifier; MQTT 3.1.1 has none."""
    names = {
        "ServerKeepAlive": 0x13,
        "SessionExpiryInterval": 0x11,
        "ReceiveMaximum": 0x21,
        "MaximumQoS": 0x24,
        "RetainAvailable": 0x25,
        "MaximumPacketSize": 0x27,
        "WildcardSubscriptionAvailable": 0x28,
        "SharedSubscriptionAvailable": 0x2A,
    }
    return {number: getattr(properties, name) for name, number in names.items() if hasattr(properties, name)}


def connect_properties(options: MqttOptions) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    if options.receive_maximum is not None:
        properties.ReceiveMaximum = options.receive_maximum
    if options.persistent:
        properties.SessionExpiryInterval = options.session_expiry
    return properties


def publish_properties(message: Message) -> Properties | None:
    metadata = message.metadata or _NOTHING
    if not message.correlation_id and metadata is _NOTHING:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if metadata.message_expiry is not None:
        properties.MessageExpiryInterval = metadata.message_expiry
    if metadata.content_type:
        properties.ContentType = metadata.content_type
    if metadata.response_topic:
        properties.ResponseTopic = metadata.response_topic
    if message.correlation_id:
        properties.CorrelationData = message.correlation_id
    if metadata.user_properties:
        properties.UserProperty = list(metadata.user_properties)
    return properties


def metadata_of(properties: Any) -> Metadata | None:
    if properties is None or properties.isEmpty():
        return None
    metadata = Metadata(
        getattr(properties, "ContentType", ""),
        getattr(properties, "ResponseTopic", ""),
        getattr(properties, "MessageExpiryInterval", None),
        tuple(getattr(properties, "UserProperty", ())),
    )
    return metadata if metadata != _NOTHING else None
