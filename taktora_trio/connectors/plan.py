"""What the two halves share: a trunk for each connector, with all of its channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from taktora_trio.channels import ChannelDescriptor, Inbound
from taktora_trio.connectors.base import Connector
from taktora_trio.transport.descriptors import check_descriptors
from taktora_trio.transport.sizing import for_end
from taktora_trio.transport.spec import ChannelSpec, End, TrunkSpec

__all__ = ["channel_name", "channel_spec", "check_ends", "specs_of", "trunk_spec"]


def channel_name(connector: Connector, channel: ChannelDescriptor[Any]) -> str:
    """Return the whole name of this channel."""
    return f"taktora.connector.{connector.name}.{channel.name}.{channel.direction}"


def channel_spec(connector: Connector, channel: ChannelDescriptor[Any]) -> ChannelSpec:
    """Return what both halves must agree on about this channel."""
    metadata_space = channel.max_metadata + connector.trace_space
    return ChannelSpec(
        name=channel_name(connector, channel),
        direction=channel.direction,
        max_payload=channel.max_payload,
        topic_space=channel.topic_space,
        metadata_space=metadata_space,
        window=channel.window,
        counts_deliveries=isinstance(channel, Inbound) and channel.acknowledge != "on-arrival",
        description=(
            f"codec {connector.codec.name}, max_payload {channel.max_payload} bytes,"
            f" topic {channel.topic_space} bytes, metadata {metadata_space} bytes, window {channel.window}"
        ),
    )


def trunk_spec(connector: Connector) -> TrunkSpec:
    """Return what both halves must agree on about this connector."""
    return TrunkSpec(
        name=f"taktora.connector.{connector.name}",
        channels=tuple(channel_spec(connector, channel) for channel in connector.channels),
    )


def specs_of(connectors: Iterable[Connector]) -> list[TrunkSpec]:
    """Return the trunks of these connectors."""
    return [trunk_spec(connector) for connector in connectors]


def check_ends(connectors: Iterable[Connector], end: End) -> dict[str, TrunkSpec]:
    """Return the trunk of each connector, by name, for a process that opens this half of all.

    Raises `TooFewDescriptors` if it can't.
    """
    specs = {connector.name: trunk_spec(connector) for connector in connectors}
    needed = sum(for_end(spec, end) for spec in specs.values())
    check_descriptors(needed, f"the {end}'s half of {len(specs)} connectors")
    return specs
