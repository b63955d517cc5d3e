"""A channel in one process: its services in a domain, with no gateway and no broker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from taktora_trio import (
    Connector,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    PayloadCodec,
)
from taktora_trio.connectors.plan import channel_spec, specs_of, trunk_spec
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import SharedNode, open_node
from taktora_trio.transport.ports import Node
from taktora_trio.transport.publisher import EnvelopePublisher
from taktora_trio.transport.services import open_services
from taktora_trio.transport.sink import PayloadSink, open_sink
from taktora_trio.transport.source import PayloadSource, open_source
from taktora_trio.transport.spec import ChannelSpec, End, TrunkSpec
from taktora_trio.transport.subscriber import EnvelopeSubscriber
from taktora_trio.transport.trunk import Trunk, open_trunk


def declare(
    message_type: type[Any], codec: PayloadCodec, *, max_payload: int = 100, window: int = 4, max_metadata: int = 0
) -> tuple[MqttConnector, ChannelSpec]:
    channel = Outbound(
        "c", message_type, MqttRouting("t"), max_payload=max_payload, window=window, max_metadata=max_metadata
    )
    connector = MqttConnector([channel], codec=codec, options=MqttOptions(protocol="5"))
    return connector, channel_spec(connector, channel)


@contextlib.asynccontextmanager
async def open_domain(domain: Domain, connector: Connector) -> AsyncIterator[SharedNode]:
    with domain.hold("owner"):
        async with open_node(domain, "test") as node, open_services(node, specs_of([connector])):
            yield node


# One end of a channel: a half of its own, as after a start.

_open: list[Trunk] = []


@contextlib.asynccontextmanager
async def open_half(node: Node, what: Connector | ChannelSpec, end: End) -> AsyncIterator[Trunk]:
    """Open one half of a connector, or of one that has this channel alone. It and the other half know of each other."""
    if isinstance(what, ChannelSpec):
        spec = TrunkSpec(name=what.name.rsplit(".", 2)[0], channels=(what,))
    else:
        spec = trunk_spec(what)
    async with open_trunk(node, spec, end) as trunk:
        _open.append(trunk)
        try:
            meet()
            yield trunk
        finally:
            _open.remove(trunk)


def meet() -> None:
    """Let all halves that are open here know of each other: real ones learn it by the service of health."""
    for trunk in _open:
        trunk.update_connections()


def writing(spec: ChannelSpec) -> End:
    return "app" if spec.direction == "out" else "gateway"


def reading(spec: ChannelSpec) -> End:
    return "gateway" if spec.direction == "out" else "app"


@contextlib.asynccontextmanager
async def open_publisher(
    node: Node, spec: ChannelSpec, connector: Connector | None = None
) -> AsyncIterator[EnvelopePublisher]:
    """Open the half that writes this channel. The connector is needed if it has more channels than this."""
    async with open_half(node, connector or spec, writing(spec)) as trunk:
        yield trunk.publisher(spec.name)


@contextlib.asynccontextmanager
async def open_subscriber(
    node: Node, spec: ChannelSpec, connector: Connector | None = None
) -> AsyncIterator[EnvelopeSubscriber]:
    """Open the half that reads this channel."""
    async with open_half(node, connector or spec, reading(spec)) as trunk:
        with trunk.open_subscriber(spec.name) as port:
            yield port


@contextlib.asynccontextmanager
async def open_sending(node: Node, spec: ChannelSpec, connector: Connector | None = None) -> AsyncIterator[PayloadSink]:
    """Open the half that writes this channel, to send raw payloads."""
    async with open_half(node, connector or spec, writing(spec)) as trunk:
        with open_sink(trunk, spec.name) as sink:
            yield sink


@contextlib.asynccontextmanager
async def open_taking(
    node: Node, spec: ChannelSpec, topic: str, connector: Connector | None = None, *, lends: bool = False
) -> AsyncIterator[PayloadSource]:
    """Open the half that reads this channel, to take raw payloads."""
    async with open_half(node, connector or spec, reading(spec)) as trunk:
        with open_source(trunk, spec.name, topic, lends=lends) as source:
            yield source


def take_all(port: EnvelopeSubscriber) -> Iterator[tuple[int, bytes]]:
    """Take all that is there: yield number and payload of each."""
    while (place := port.take()) is not None:
        header, payload, _, _ = port.open(place)
        yield header.sequence_number, bytes(payload)
