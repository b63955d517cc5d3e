"""Outbound channels as MQTT publishes them: each with its packet identifiers, over all connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.connection import OnDone
from taktora_trio.connectors.mqtt.exactly_once import MEMORY, ExactlyOnce
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.connectors.mqtt.wire.message import OWN_PACKET_IDS

if TYPE_CHECKING:
    from taktora_trio.connectors.source import Source

__all__ = ["OutboundChannel", "outbound_channels"]


class OutboundChannel:
    """One channel's routing and packet identifiers.

    A message's identifier follows from its sequence number. So the next gateway publishes what this one had not
    finished under the same identifiers, by which the broker of a persistent session knows them (MQTT-4.4.0-1).
    """

    __slots__ = ("exactly_once", "first_id", "ids", "numbers", "on_done", "qos", "retain")

    def __init__(
        self, routing: MqttRouting, first_id: int, ids: int, source: Source, memory: memoryview | None
    ) -> None:
        self.qos, self.retain = routing.qos, routing.retain
        self.first_id = first_id
        self.ids = ids
        self.exactly_once = ExactlyOnce(range(first_id, first_id + ids), source, memory) if self.qos == 2 else None
        self.numbers = [0] * ids
        """The sequence numbers of those in flight, by `number % ids`."""
        self.on_done: OnDone = lambda number, refusal: None

    def packet_id(self, number: int) -> int:
        """Return the identifier of the message with this sequence number."""
        return self.first_id + number % self.ids

    def finish(self, packet_id: int, refusal: str) -> None:
        """Nothing more is to be done for the message under this identifier: pass it on by its sequence number."""
        self.on_done(self.numbers[packet_id - self.first_id], refusal)


def outbound_channels(
    channels: Sequence[ChannelDescriptor[Any]],
    max_inflight: int,
    sources: Mapping[str, Source],
    memory: Callable[[str, int], memoryview] | None = None,
) -> dict[str, OutboundChannel]:
    """Return these channels by name, each with an equal part of the identifiers that a client has.

    `memory` is `GatewayChannels.memory`, for a client of several brokers, each with a session of its own.
    """

    def remembered(channel: ChannelDescriptor[Any]) -> memoryview | None:
        if memory is None or cast(MqttRouting, channel.routing).qos < 2:
            return None
        return memory(f"{channel.name}.broker", MEMORY)

    ids = min(max_inflight, max(1, (OWN_PACKET_IDS - 1) // max(1, len(channels))))
    return {
        channel.name: OutboundChannel(
            cast(MqttRouting, channel.routing), 1 + index * ids, ids, sources[channel.name], remembered(channel)
        )
        for index, channel in enumerate(channels)
    }
