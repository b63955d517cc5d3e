"""Topics of one client: the gateway fills its client id in, in what is subscribed and in what is asked."""

from __future__ import annotations

from typing import Any

import pytest

from taktora_trio import (
    ConfigError,
    Envelope,
    Exchange,
    Header,
    Inbound,
    Metadata,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
)
from taktora_trio.connectors.mqtt.own_topics import of_client, with_own_topic

ADD = Exchange("add", int, int, MqttRouting("add", qos=1))
OWN = "add/replies/{client_id}"


def test_the_address_of_one_client_is_one_topic() -> None:
    routing = MqttRouting("add/replies", per_client=True)
    assert (routing.address, routing.subscription, routing.is_pattern) == (OWN, OWN, False)
    routing.check("in")
    MqttRouting("add").check_metadata(Metadata(response_topic=OWN))


@pytest.mark.parametrize("topic", ["a/+", "#", "a/{unit}", "$share/g/a/#"])
def test_it_is_for_an_inbound_channel_of_one_topic(topic: str) -> None:
    with pytest.raises(ConfigError, match="per_client is for an inbound channel of one topic"):
        MqttRouting(topic, per_client=True).check("in")
    with pytest.raises(ConfigError, match="per_client is for an inbound channel of one topic"):
        MqttRouting("a", per_client=True).check("out")


@pytest.mark.parametrize(
    ("client_id", "level"),
    [("plant-7", "plant-7"), ("a/b", "a%2Fb"), ("a+#", "a%2B%23"), ("a%2Fb", "a%252Fb"), ("ü {x}", "ü %7Bx%7D")],
)
def test_each_client_id_is_one_level_and_no_two_are_the_same(client_id: str, level: str) -> None:
    filled = MqttRouting("add/replies", qos=1, per_client=True).for_client(client_id)
    assert filled == MqttRouting(f"add/replies/{level}", qos=1)
    assert filled.address == f"add/replies/{level}"
    filled.check("in")
    ADD.for_responder[1].routing.check_topic(filled.address)


def test_the_channels_and_what_they_ask_for() -> None:
    plain: list[Any] = [Outbound("out", int, MqttRouting("a")), Inbound("in", int, MqttRouting("b"))]
    filled, own = of_client([*plain, *ADD.for_requester], "me")
    assert own == {OWN: "add/replies/me"}
    assert list(filled[:3]) == [*plain, ADD.for_requester[0]]
    assert filled[3].routing.address == "add/replies/me"
    assert of_client(plain, None) == (plain, {})
    with pytest.raises(ConfigError, match="channel 'add-reply' needs a client id"):
        of_client(ADD.for_requester, None)


def test_only_the_response_topic_that_stands_for_ours_is_filled_in() -> None:
    def envelope(metadata: Metadata | None) -> Envelope:
        return Envelope(b"1", Header(1, 0, correlation_id=b"7"), "add", metadata)

    asked = Metadata("text", OWN, 5, (("a", "b"),))
    filled = with_own_topic(envelope(asked), {OWN: "add/replies/me"})
    assert filled == envelope(Metadata("text", "add/replies/me", 5, (("a", "b"),)))
    for metadata in (None, Metadata(), Metadata(response_topic="other/{client_id}")):
        same = envelope(metadata)
        assert with_own_topic(same, {OWN: "add/replies/me"}) is same


def test_an_address_that_is_yet_to_be_filled_in_fits_what_it_may_become() -> None:
    connector = MqttConnector(ADD.for_requester, options=MqttOptions(protocol="5"))
    assert connector.overlap(OWN, "add/replies/me")
    assert connector.overlap("add/#", OWN)
    assert not connector.overlap(OWN, "add/replies/me/too")
    assert not connector.overlap(OWN, "add")
