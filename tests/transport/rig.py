"""A channel in one process: its services in a domain, its two ends, with no gateway and no broker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import iceoryx2 as iox2

from taktora_trio import (
    ChannelReader,
    ChannelWriter,
    JsonCodec,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    PayloadCodec,
)
from taktora_trio.connectors.plan import channel_spec, specs_of
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from taktora_trio.transport.reader import open_reader
from taktora_trio.transport.services import ServiceSpec, open_services
from taktora_trio.transport.writer import open_writer

T = TypeVar("T")


def declare(
    message_type: type[Any], codec: PayloadCodec, *, max_payload: int = 100, window: int = 4, max_metadata: int = 0
) -> tuple[MqttConnector, ServiceSpec]:
    channel = Outbound(
        "c", message_type, MqttRouting("t"), max_payload=max_payload, window=window, max_metadata=max_metadata
    )
    connector = MqttConnector([channel], codec=codec, options=MqttOptions(protocol="5"))
    return connector, channel_spec(connector, channel)


@contextlib.asynccontextmanager
async def open_domain(domain: Domain, connector: MqttConnector) -> AsyncIterator[iox2.Node]:
    with domain.hold("owner"):
        async with open_node(domain, "test") as node, open_services(node, specs_of([connector])):
            yield node


@contextlib.asynccontextmanager
async def open_channel(
    domain: Domain,
    message_type: type[T],
    codec: PayloadCodec | None = None,
    *,
    max_payload: int = 100,
    window: int = 4,
    max_metadata: int = 0,
) -> AsyncIterator[tuple[ChannelWriter[T], ChannelReader[T]]]:
    codec = codec or JsonCodec()
    connector, spec = declare(message_type, codec, max_payload=max_payload, window=window, max_metadata=max_metadata)
    async with (
        open_domain(domain, connector) as node,
        open_writer(node, spec, message_type, codec) as writer,
        open_reader(node, spec, message_type, codec, "t") as reader,
    ):
        yield writer, reader
