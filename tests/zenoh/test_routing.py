"""What a channel may declare, and what a message may name: every mistake is one line that says what to do."""

from __future__ import annotations

import enum
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio import (
    CodecError,
    ConfigError,
    Inbound,
    MessageError,
    Metadata,
    MqttRouting,
    Outbound,
    ZenohConnector,
    ZenohRouting,
)
from taktora_trio.connectors.zenoh.keys import canonical, check_key, intersects


class Mode(enum.Enum):
    OFF = "off"
    HEAT = "heat"


@attrs.frozen
class Setpoint:
    unit: str
    number: int = 0
    on: bool = False
    mode: Mode = Mode.OFF
    value: float = 0.0


WHOLE = ZenohRouting("plant/{unit}/{number}/{on}/{mode}/setpoint")


def test_fields_make_the_key_and_the_key_makes_the_fields() -> None:
    key = "plant/boiler 3/-7/true/heat/setpoint"
    to_key, to_fields = WHOLE.topic_of(Setpoint), WHOLE.fields_of(Setpoint)
    assert to_key
    assert to_fields
    assert to_key(Setpoint("boiler 3", -7, True, Mode.HEAT)) == key
    assert to_fields(key) == {"unit": "boiler 3", "number": -7, "on": True, "mode": Mode.HEAT}
    assert (WHOLE.address, WHOLE.is_pattern) == ("plant/*/*/*/*/setpoint", True)


@given(st.text(min_size=1, max_size=6) | st.text("a@/*#?$ \ud800", max_size=4))
def test_a_text_comes_back_as_it_went_out_or_is_refused(text: str) -> None:
    """What is sent is a key that whoever subscribes to the template gets."""
    routing = ZenohRouting("{unit}/b")
    to_key, to_fields = routing.topic_of(Setpoint), routing.fields_of(Setpoint)
    assert to_key
    assert to_fields
    try:
        key = to_key(Setpoint(text))
    except CodecError:
        assert not text or set(text) & set("/*#?$\ud800") or text[0] == "@" or not text.isprintable()
        return
    check_key(key)
    assert intersects(routing.address, key)
    assert to_fields(key) == {"unit": text}


@pytest.mark.parametrize(
    ("template", "address", "key"),
    [
        ("**/{unit}", "*/**", "a/b/x"),
        ("**/{unit}", "*/**", "x"),
        ("{unit}/**", "*/**", "x/a/b"),
        ("{number}/**/{unit}/end", "*/*/**/end", "7/a/b/x/end"),
        ("{number}/**/{unit}/end", "*/*/**/end", "7/x/end"),
        ("a/*/{unit}", "a/*/*", "a/b/x"),
        ("a$*/{unit}/@b", "a$*/*/@b", "abc/x/@b"),
    ],
)
def test_fields_stand_beside_wildcards_on_the_way_in(template: str, address: str, key: str) -> None:
    routing = ZenohRouting(template)
    to_fields = routing.fields_of(Setpoint)
    assert to_fields
    assert routing.address == address == canonical(address)
    assert intersects(address, key)
    assert to_fields(key)["unit"] == "x"
    Inbound("c", Setpoint, routing)
    with pytest.raises(ConfigError, match="fields and wildcards don't go together on an outbound channel"):
        Outbound("c", Setpoint, routing)


def test_what_was_put_to_a_key_expression_has_no_fields() -> None:
    to_fields = WHOLE.fields_of(Setpoint)
    assert to_fields
    for key in ("plant/*/1/true/heat/setpoint", "plant/a$*/1/true/heat/setpoint"):
        with pytest.raises(CodecError, match="of the key is a wildcard, and no 'unit'"):
            to_fields(key)
    with pytest.raises(CodecError, match="the key has no chunk for 'mode'"):
        to_fields("plant/**")


@pytest.mark.parametrize("kind", [Inbound, Outbound])
@pytest.mark.parametrize(
    ("key", "says"),
    [
        (None, "it must have at least one character"),
        ("", "it must have at least one character"),
        ("/a", "write 'a'"),
        ("plant/#", "'**'"),
        ("a/**/*", "canonical form is 'a/*/**'"),
        ("a/x{unit}", "it must be the whole chunk, such as {unit}"),
        ("a/{nix}", "Setpoint has no field 'nix' for the key"),
        ("a/{value}", "a field for the key is a str, int, bool or enum"),
        ("a/{unit}/{unit}", "can only stand at one chunk"),
        ("**/{unit}/**", "which chunk it is can't be told"),
    ],
)
def test_a_key_that_is_none_is_refused_when_declared(kind: Any, key: Any, says: str) -> None:
    with pytest.raises(ConfigError, match="channel 'c': ") as refused:
        kind("c", Setpoint, ZenohRouting(key))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        (Outbound, {"liveliness": True}, "liveliness is for inbound channels"),
        (Inbound, {"priority": "real-time"}, "are the sender's: leave them out"),
        (Inbound, {"congestion_control": "drop"}, "are the sender's"),
        (Inbound, {"reliability": "best-effort"}, "are the sender's"),
        (Inbound, {"express": True}, "are the sender's"),
        (Outbound, {"acknowledged": True, "recover": 3}, "acknowledged and recover don't go together"),
        (Outbound, {"acknowledged": True, "congestion_control": "drop"}, "lets it be lost"),
        (Outbound, {"acknowledged": True, "reliability": "best-effort"}, "lets it be lost"),
        (Inbound, {"liveliness": True, "acknowledged": True}, "liveliness and acknowledged don't go together"),
        (Inbound, {"liveliness": True, "latched": True}, "liveliness and latched don't go together"),
        (Inbound, {"liveliness": True, "recover": 1}, "liveliness and recover don't go together"),
    ],
)
def test_what_contradicts_is_refused(kind: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match="channel 'c': key 'a/b': ") as refused:
        kind("c", bool, ZenohRouting("a/b", **options))
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"priority": "high"}, "ZenohRouting: priority is 'high'; use 'real-time'"),
        ({"congestion_control": "wait"}, "congestion_control is 'wait'"),
        ({"reliability": 1}, "reliability is 1"),
        ({"express": "yes"}, "express is 'yes'"),
        ({"recover": -1}, "recover is -1"),
    ],
)
def test_a_value_that_can_not_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ZenohRouting("a", **options)
    assert says in str(refused.value)


def test_a_message_names_a_key_that_the_channel_is_declared_for() -> None:
    routing = ZenohRouting("plant/*/**")
    for key in ("plant/7", "plant/7/heat"):
        routing.check_topic(key)
    for key, says in {
        "plant": "none of 'plant/*/**', which the channel is declared for",
        "plant/@7": "none of",
        "plant/7/**": "it must be one concrete key",
        "plant//7": "write 'plant/7'",
        "plant/7#": "no key has a '#'",
        "x" * 70_000: "Zenoh ends at 65535",
        "plant/\ud800": "no UTF-8",
    }.items():
        with pytest.raises(MessageError) as refused:
            routing.check_topic(key)
        assert says in str(refused.value)
    with pytest.raises(MessageError, match="all messages of this channel go to 'a/b'"):
        ZenohRouting("a/b").check_topic("a/b")


def test_metadata_that_can_not_travel_is_refused() -> None:
    routing = ZenohRouting("a")
    routing.check_metadata(Metadata("text/plain", "b", 3, (("name", "ü"), ("name", ""))))
    for metadata in (Metadata("\ud800"), Metadata(user_properties=(("a", "\ud800"),))):
        with pytest.raises(MessageError, match="no UTF-8"):
            routing.check_metadata(metadata)


def test_a_connector_takes_no_routing_of_another_protocol() -> None:
    with pytest.raises(ConfigError, match="its routing must be of type ZenohRouting"):
        ZenohConnector([Inbound("c", Setpoint, MqttRouting("a"))])


def test_channels_whose_keys_overlap_say_the_same_of_what_is_their_own() -> None:
    def declare(*keys: tuple[str, bool]) -> None:
        ZenohConnector(
            [Inbound(f"c{n}", bytes, ZenohRouting(key, others_only=own)) for n, (key, own) in enumerate(keys)]
        ).check()

    declare(("a/**", True), ("a/b", True), ("b/*", False))
    with pytest.raises(ConfigError, match="channels 'c0' and 'c1': their keys overlap, and only one has others_only"):
        declare(("a/**", True), ("a/b", False))
    with pytest.raises(ConfigError, match="others_only is for inbound channels"):
        Outbound("out", bytes, ZenohRouting("a", others_only=True))
