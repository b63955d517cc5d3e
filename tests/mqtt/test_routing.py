from __future__ import annotations

from typing import Any

import pytest

from taktora_trio import ConfigError, MessageError, Metadata, MqttRouting, Routing


def test_defaults() -> None:
    routing = MqttRouting("plant/temperature")
    assert isinstance(routing, Routing)
    assert (routing.qos, routing.retain, routing.address, routing.is_pattern) == (0, False, "plant/temperature", False)


@pytest.mark.parametrize(
    ("topic", "good"),
    [("plant/+", "plant/a"), ("plant/#", "plant"), ("#", "a/b"), ("+/temperature", "/temperature")],
)
def test_on_a_pattern_each_outbound_message_names_a_topic_of_it(topic: str, good: str) -> None:
    routing = MqttRouting(topic, qos=2)
    assert routing.is_pattern
    routing.check("in")
    routing.check("out")
    routing.check_topic(good)
    with pytest.raises(MessageError, match="has a wildcard"):
        routing.check_topic(topic)
    with pytest.raises(MessageError, match="which the channel is declared for"):
        routing.check_topic("$SYS/temperature")
    with pytest.raises(MessageError, match="all messages of this channel go to 'plant': leave topic='plant' out"):
        MqttRouting("plant").check_topic("plant")


def test_a_shared_subscription_is_for_inbound_channels_and_matches_what_is_behind_its_group() -> None:
    routing = MqttRouting("$share/workers/plant/+")
    assert (routing.subscription, routing.address, routing.is_pattern) == ("$share/workers/plant/+", "plant/+", True)
    assert not MqttRouting("$share/workers/plant").is_pattern
    routing.check("in")
    with pytest.raises(ConfigError, match="a shared subscription is for inbound channels"):
        routing.check("out")


@pytest.mark.parametrize(
    ("metadata", "part"),
    [
        (Metadata(response_topic="answers/+"), "has a wildcard"),
        (Metadata(response_topic="a\0"), "null character"),
        (Metadata(content_type="text\n"), r"content type .* U\+000A, for which brokers end a connection"),
        (Metadata(user_properties=(("a\uffff", ""),)), r"name of a user property .* U\+FFFF"),
        (Metadata(user_properties=(("", ""), ("a", "\x85"))), r"user property 'a' .* U\+0085"),
        (Metadata(user_properties=(("a", "\ud800"),)), r"U\+D800"),
    ],
)
def test_metadata_that_would_end_the_connection_is_refused(metadata: Metadata, part: str) -> None:
    with pytest.raises(MessageError, match=part):
        MqttRouting("a").check_metadata(metadata)


def test_metadata_that_mqtt_can_carry() -> None:
    properties = (("", ""), ("ü", "+/#"), ("ü", "x" * 1000))
    MqttRouting("a").check_metadata(Metadata("text/plain", "answers/7", 0, properties))


def test_retain_is_for_outbound_channels() -> None:
    routing = MqttRouting("plant/temperature", retain=True)
    routing.check("out")
    with pytest.raises(ConfigError, match="retain is for outbound channels"):
        routing.check("in")


@pytest.mark.parametrize("direction", ["in", "out"])
def test_an_impossible_topic_fits_no_direction(direction: Any) -> None:
    with pytest.raises(ConfigError, match="at least one character"):
        MqttRouting("").check(direction)


@pytest.mark.parametrize("qos", [-1, 3, 1.5, "1", None, True])
def test_qos_is_0_1_or_2(qos: Any) -> None:
    with pytest.raises(ConfigError, match=f"QoS of 'plant' is {qos!r}; it must be 0, 1 or 2"):
        MqttRouting("plant", qos)
