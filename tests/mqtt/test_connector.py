"""What a connector refuses where it is declared, and at the app's side because of it."""

from __future__ import annotations

from typing import Any

import pytest

from taktora_trio import (
    ConfigError,
    Inbound,
    MessageError,
    Metadata,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
)
from taktora_trio.connectors.plan import channel_spec, specs_of
from taktora_trio.host.open import open_connector_host
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from taktora_trio.transport.ports import open_envelope_subscriber
from taktora_trio.transport.services import open_services

SAID = r"MQTT 3\.1\.1 carries neither metadata nor correlation ids.*protocol='5'"


@pytest.mark.parametrize("kind", [Inbound, Outbound])
def test_room_for_metadata_is_a_mistake_where_the_protocol_has_none(kind: Any) -> None:
    channel = kind("a", bytes, MqttRouting("t"), max_metadata=1)
    with pytest.raises(ConfigError, match=rf"channel 'a' sets max_metadata: {SAID}"):
        MqttConnector([channel], codec=RawCodec())
    assert MqttConnector([channel], codec=RawCodec(), options=MqttOptions(protocol="5")).channels == (channel,)


async def test_nothing_that_the_protocol_does_not_carry_is_taken_from_the_app(domain: Domain) -> None:
    channel = Outbound("out", bytes, MqttRouting("t"))
    connector = MqttConnector([channel], codec=RawCodec())
    spec = channel_spec(connector, channel)
    with domain.hold("owner"):
        async with (
            open_node(domain, "test") as node,
            open_services(node, specs_of([connector])),
            open_connector_host(node, [connector]) as host,
            host.open_writer(channel) as writer,
            open_envelope_subscriber(node, spec) as gateway,
        ):
            with pytest.raises(MessageError, match=SAID):
                await writer.send(b"x", correlation_id=b"id")
            with pytest.raises(MessageError, match=SAID):
                writer.send_nowait(b"x", correlation_id=b"id")
            with pytest.raises(MessageError, match=SAID):
                async with writer.loan(1, correlation_id=b"id"):
                    pass
            with pytest.raises(MessageError, match=SAID):
                await writer.send(b"x", metadata=Metadata("text/plain"))
            assert gateway.take() is None
            await writer.send(b"x", correlation_id=b"")
            sample = gateway.take()
            assert sample is not None
            gateway.open(sample, acknowledge=True)
            sample.delete()
