"""The services of a deployment's connectors: a service for each channel, and one for the health of each connector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from taktora_trio.channels import ChannelDescriptor, Inbound
from taktora_trio.connectors.base import Connector
from taktora_trio.transport.descriptors import END, check_descriptors
from taktora_trio.transport.spec import HEALTH_PAYLOAD, ServiceSpec

__all__ = ["channel_spec", "check_ends", "health_spec", "specs_of"]


def channel_spec(connector: Connector, channel: ChannelDescriptor[Any]) -> ServiceSpec:
    """Return the service of this channel."""
    return ServiceSpec(
        name=f"taktora.connector.{connector.name}.{channel.name}.{channel.direction}",
        max_payload=channel.max_payload,
        topic_space=channel.topic_space,
        metadata_space=channel.max_metadata,
        window=channel.window,
        # It covers all that is not acknowledged, so that a gateway goes on where the one before has stopped.
        history=channel.window,
        counts_deliveries=isinstance(channel, Inbound) and channel.acknowledge != "on-arrival",
        description=(
            f"codec {connector.codec.name}, max_payload {channel.max_payload} bytes,"
            f" topic {channel.topic_space} bytes, metadata {channel.max_metadata} bytes, window {channel.window}"
        ),
    )


def health_spec(connector: Connector) -> ServiceSpec:
    """Return the service of the connector's health. It keeps the newest report for a plugin that comes later."""
    return ServiceSpec(
        name=f"taktora.connector.{connector.name}.health",
        max_payload=HEALTH_PAYLOAD,
        window=64,
        history=1,
        overflow=True,
        description="health, version 1",
    )


def specs_of(connectors: Iterable[Connector]) -> list[ServiceSpec]:
    """Return every service of these connectors."""
    return [
        spec
        for connector in connectors
        for spec in (*(channel_spec(connector, channel) for channel in connector.channels), health_spec(connector))
    ]


def check_ends(connectors: Iterable[Connector], whose: str) -> None:
    """Raise `TooFewDescriptors` if this process can't open one end of all services."""
    count = len(specs_of(connectors))
    check_descriptors(END * count, f"{whose} of {count} services")
