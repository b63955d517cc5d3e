"""A channel in one process: its services in a domain, with no gateway and no broker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import iceoryx2 as iox2

from taktora_trio import (
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    PayloadCodec,
)
from taktora_trio.connectors.plan import channel_spec, specs_of
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from taktora_trio.transport.services import open_services
from taktora_trio.transport.spec import ServiceSpec


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
