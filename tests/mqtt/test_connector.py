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
from taktora_trio.transport.services import open_services
from tests.transport.rig import open_subscriber, take_all

SAID = r"MQTT 3\.1\.1 carries neither metadata nor correlation ids.*protocol='5'"


@pytest.mark.parametrize("kind", [Inbound, Outbound])
def test_room_for_metadata_is_a_mistake_where_the_protocol_has_none(kind: Any) -> None:
    channel = kind("a", bytes, MqttRouting("t"), max_metadata=1)
    with pytest.raises(ConfigError, match=rf"channel 'a' sets max_metadata: {SAID}"):
        MqttConnector([channel], codec=RawCodec())
    assert MqttConnector([channel], codec=RawCodec(), options=MqttOptions(protocol="5")).channels == (channel,)


def test_the_broker_is_told_how_many_messages_the_gateway_has_room_for() -> None:
    def told(*channels: Inbound[bytes], **options: Any) -> int | None:
        given = MqttOptions(protocol="5", inbound_backlog=100_000, **options)
        return MqttConnector(channels, options=given, codec=RawCodec()).options_as("me").receive_maximum

    def channel(name: str, topic: str, qos: Any = 1, **options: Any) -> Inbound[bytes]:
        return Inbound(name, bytes, MqttRouting(topic, qos=qos), **options)

    small, large = channel("small", "s", max_payload=20, window=8), channel("large", "l", max_payload=1520, window=5)
    wild = channel("wild", "a/#", max_payload=20, window=8, max_topic=500)
    unreliable = channel("unreliable", "u", 0, max_payload=2**20, window=100)
    shared = channel("shared", "$share/group/s", max_payload=20, window=8)
    assert told(small) == 9 + 100_000 // (20 + 480)
    assert told(small, large, unreliable) == 8 + 5 + 1 + 100_000 // (1520 + 480), "none of them may be too many"
    assert told(wild) == 9 + 100_000 // (20 + 500 + 480)
    assert told(large, shared) == 8 + 5 + 1, "what waits here no other member of the group gets"
    assert told(unreliable) is None
    assert told(channel("wide", "w", window=70_000)) == 65_535
    assert told(small, receive_maximum=3) == 3


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
            open_subscriber(node, spec) as gateway,
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
            assert [payload for _, payload in take_all(gateway)] == [b"x"]
            gateway.acknowledge(1)


def test_what_is_acknowledged_when_stored_wants_a_session_that_lasts() -> None:
    channel = Inbound("orders", bytes, MqttRouting("t", qos=1), acknowledge="stored")
    with pytest.raises(
        ConfigError, match=r"'orders': acknowledge='stored' and MqttOptions\(persistent=False\) contradict"
    ):
        MqttConnector([channel], options=MqttOptions(persistent=False))
    assert MqttConnector([channel]).session_lasts
