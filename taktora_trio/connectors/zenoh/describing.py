"""What a Zenoh connector says of its channels and of where others join. AsyncAPI has no bindings for Zenoh."""

from __future__ import annotations

from typing import Any, cast

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.description import ChannelDescription, ServerDescription, describe_address
from taktora_trio.connectors.zenoh.endpoints import parse_endpoint
from taktora_trio.connectors.zenoh.keys import TEMPLATES
from taktora_trio.connectors.zenoh.routing import ZenohRouting
from taktora_trio.errors import ConfigError

__all__ = ["describe_channel", "describe_server"]


def describe_channel(channel: ChannelDescriptor[Any]) -> ChannelDescription:
    """Return what others need to know of a channel to exchange messages with it."""
    routing = cast(ZenohRouting, channel.routing)
    address, parameters = describe_address(TEMPLATES.parse(routing.key), within="$*")
    properties: dict[str, object] = {"acknowledged": routing.acknowledged, "latched": routing.latched}
    if routing.liveliness:
        properties["liveliness"] = True
    if channel.direction == "out":
        properties["priority"] = routing.priority
    return ChannelDescription(topic=routing.key, address=address, parameters=parameters, properties=properties)


def describe_server(endpoint: str) -> ServerDescription:
    """Return the description of a node at this endpoint. Raises `ConfigError`."""
    found = parse_endpoint(endpoint)
    if found.path:
        raise ConfigError("a node at a unix socket is nobody else's: name one that others reach, or none")
    host = f"[{found.host}]" if ":" in found.host else found.host
    return ServerDescription(host=f"{host}:{found.port}", protocol="zenoh", protocol_version="1", path="")
