from __future__ import annotations

from typing import Any

import attrs
import pytest

from taktora_trio import ChannelDescriptor, ConfigError, Header, Inbound, MqttRouting, Outbound, Received, Routing
from taktora_trio.channels import check_name

TOPIC = MqttRouting("plant/temperature", qos=1)
PATTERN = MqttRouting("plant/+/temperature")


def test_defaults_and_direction() -> None:
    outbound = Outbound("temperature", float, TOPIC)
    assert (outbound.direction, outbound.max_payload, outbound.window, outbound.topic_space) == ("out", 4096, 64, 0)
    assert Inbound("temperature", float, TOPIC).direction == "in"


def test_space_for_a_topic_is_set_aside_only_where_the_routing_is_a_pattern() -> None:
    assert Inbound("one", float, TOPIC, max_topic=100).topic_space == 0
    assert Inbound("many", float, PATTERN, max_topic=100).topic_space == 100


@pytest.mark.parametrize(("name", "lowest"), [("max_topic", 1), ("max_metadata", 0)])
def test_an_envelope_has_two_bytes_for_each_of_these_lengths(name: str, lowest: int) -> None:
    for value in (lowest, 65_535):
        assert getattr(Inbound("a", float, PATTERN, **{name: value}), name) == value  # type: ignore[arg-type]
    for wrong in (lowest - 1, 65_536, 1.5, "64", True, None):
        with pytest.raises(ConfigError, match=f"channel 'a': {name} is {wrong!r}"):
            Inbound("a", float, PATTERN, **{name: wrong})  # type: ignore[arg-type]


def test_descriptors_are_frozen_and_compare_by_what_they_say() -> None:
    assert Outbound("a", int, TOPIC) == Outbound("a", int, TOPIC)
    pair: list[ChannelDescriptor[int]] = [Outbound("a", int, TOPIC), Inbound("a", int, TOPIC)]
    assert pair[0] != pair[1]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Outbound("a", int, TOPIC).window = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", ["a", "A1", "wheel_speed-2", "9", "x" * 64])
def test_good_names(name: str) -> None:
    check_name("channel", name)
    assert Outbound(name, int, TOPIC).name == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a.b", "-a", "_a", "x" * 65, "ä", "a\n", None, 3])
def test_bad_names(name: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check_name("channel", name)
    assert repr(name) in str(caught.value)
    with pytest.raises(ConfigError, match="channel name"):
        Outbound(name, int, TOPIC)


@pytest.mark.parametrize("field", ["max_payload", "window", "max_topic"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "64", True, None])
def test_sizes_are_whole_numbers_of_at_least_one(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"channel 'a': {field} is {value!r}"):
        Outbound("a", int, TOPIC, **{field: value})


def test_the_largest_payload_is_what_mqtt_can_carry() -> None:
    assert Outbound("a", bytes, TOPIC, max_payload=268_435_455).max_payload == 268_435_455
    with pytest.raises(ConfigError, match="268435455"):
        Outbound("a", bytes, TOPIC, max_payload=268_435_456)


def test_a_descriptor_without_a_direction_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Outbound\(\.\.\.\) or Inbound"):
        ChannelDescriptor("a", int, TOPIC)


def test_a_routing_must_be_typed() -> None:
    with pytest.raises(
        ConfigError, match=r"'a': its routing is 'plant/temperature'; use the routing class of its protocol"
    ):
        Outbound("a", int, "plant/temperature")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "routing"),
    [
        (Outbound, MqttRouting("$share/group/plant")),
        (Outbound, MqttRouting("plant/{unit}")),
        (Inbound, MqttRouting("plant/temperature", retain=True)),
        (Inbound, MqttRouting("plant/#/temperature")),
        (Inbound, MqttRouting("")),
        (Outbound, MqttRouting("")),
    ],
)
def test_a_routing_must_fit_the_direction(kind: type[ChannelDescriptor[int]], routing: MqttRouting) -> None:
    with pytest.raises(ConfigError, match="channel 'a': "):
        kind("a", int, routing)


def test_a_header_says_no_more_than_it_is_given() -> None:
    header = Header(1, 2)
    assert (header.correlation_id, header.retained) == (b"", False)
    assert Received(b"", Header(1, 2, retained=True), "t").retained


class _Unlimited(Routing):
    address = "anywhere"
    is_pattern = False

    def check(self, direction: str) -> None:
        pass


def test_without_a_limit_of_the_protocol_an_envelope_has_the_last_word() -> None:
    assert Outbound("a", bytes, _Unlimited(), max_payload=2**32 - 1).max_payload == 2**32 - 1
    with pytest.raises(ConfigError, match="an envelope takes 4294967295 bytes at most"):
        Outbound("a", bytes, _Unlimited(), max_payload=2**32)
