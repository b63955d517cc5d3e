"""Topics of this client alone, such as for replies: what they are once the client id is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import attrs
from msgspec.structs import replace

from taktora_trio.channels import ChannelDescriptor, Envelope
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.errors import ConfigError

__all__ = ["of_client", "with_own_topic"]


def of_client(
    channels: Sequence[ChannelDescriptor[Any]], client_id: str | None
) -> tuple[Sequence[ChannelDescriptor[Any]], Mapping[str, str]]:
    """Return the channels with the client id filled in, and the topics that changed by it, by what they were before.

    Raises `ConfigError` where a topic needs a client id, and the broker is to make one.
    """
    own: dict[str, str] = {}
    filled = []
    for channel in channels:
        routing = cast(MqttRouting, channel.routing)
        if routing.per_client:
            if client_id is None:
                raise ConfigError(f"channel {channel.name!r} needs a client id, which is in its topic: give one")
            channel = attrs.evolve(channel, routing=routing.for_client(client_id))
            own[routing.address] = channel.routing.address
        filled.append(channel)
    return filled, own


def with_own_topic(envelope: Envelope, own: Mapping[str, str]) -> Envelope:
    """Return the envelope with the response topic that the other side is to use, if it names one of these."""
    metadata = envelope.metadata
    if metadata is None or metadata.response_topic not in own:
        return envelope
    return replace(envelope, metadata=replace(metadata, response_topic=own[metadata.response_topic]))
