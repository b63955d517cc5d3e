"""What an MQTT connector says of its channels and its broker, by the MQTT bindings of AsyncAPI (0.2.0)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.description import (
    AddressParameter,
    ChannelDescription,
    ServerDescription,
    describe_address,
)
from taktora_trio.connectors.mqtt.address import BrokerAddress
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.connectors.mqtt.topics import TEMPLATES, split_share
from taktora_trio.errors import ConfigError

__all__ = ["describe_channel", "describe_server"]

_VERSION = {"bindingVersion": "0.2.0"}


def describe_channel(channel: ChannelDescriptor[Any], options: MqttOptions) -> ChannelDescription:
    """Return what others need to know of a channel to exchange messages with it."""
    routing = cast(MqttRouting, channel.routing)
    address, parameters = _address(routing)
    outbound = channel.direction == "out"
    with_metadata = options.protocol == "5" and channel.max_metadata > 0
    group, topic_filter = split_share(routing.subscription)
    operation: dict[str, object] = {"qos": routing.qos}
    if outbound:
        operation["retain"] = routing.retain
    if outbound and with_metadata:
        operation["messageExpiryInterval"] = {
            "type": "integer",
            "minimum": 0,
            "maximum": 2**32 - 1,
            "description": "Each message may have its own, or none.",
        }
    if routing.is_pattern:
        operation["x-topic-filter"] = topic_filter
    if group:
        operation["x-share-group"] = group
    message: dict[str, object] = {}
    if with_metadata:
        message = {
            "correlationData": {"type": "string", "description": "The bytes that an answer brings back, if any."},
            "responseTopic": {"type": "string", "description": "Where an answer is expected, if one is."},
        }
    return ChannelDescription(
        topic=routing.address if routing.per_client else routing.topic,
        address=address,
        parameters=parameters,
        properties={"QoS": routing.qos, "retain": routing.retain},
        protocol="mqtt",
        operation={**operation, **_VERSION},
        message={**message, **_VERSION} if message else {},
    )


def _address(routing: MqttRouting) -> tuple[str, Mapping[str, AddressParameter]]:
    """Return the topic with a name for each field and wildcard, and what these are."""
    if routing.per_client:
        return routing.address, {"client_id": AddressParameter("The client id of the deployment that it is for.")}
    return describe_address(TEMPLATES.parse(split_share(routing.topic)[1]))


def describe_server(url: str, options: MqttOptions) -> ServerDescription:
    """Return the description of the broker at this URL. Raises `ConfigError`."""
    broker = BrokerAddress.parse(url)
    if broker.transport == "unix":
        raise ConfigError("a broker at a unix socket is nobody else's: name one that others reach, or none")
    host = f"[{broker.host}]" if ":" in broker.host else broker.host
    websocket = broker.transport == "websocket"
    bindings: dict[str, object] = {"keepAlive": options.keepalive, **_VERSION}
    return ServerDescription(
        host=f"{host}:{broker.port}",
        path=broker.path.partition("?")[0] if websocket else "",
        protocol=("wss" if broker.tls else "ws") if websocket else ("mqtts" if broker.tls else "mqtt"),
        protocol_version=options.protocol,
        binding="mqtt",
        bindings=bindings,
    )
