"""Each change of a document is named, and only what breaks somebody is called breaking."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from taktora_trio import (
    ChannelDescriptor,
    ConfigError,
    Inbound,
    JsonCodec,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    MsgpackCodec,
    Outbound,
    PayloadCodec,
    ZstdCodec,
)
from taktora_trio.declare.changes import changes
from tests.declare.rig import document_of


@attrs.frozen
class Reading:
    celsius: float


def declared(*channels: ChannelDescriptor[Any], codec: PayloadCodec | None = None) -> dict[str, Any]:
    options = MqttOptions(protocol="5")
    return document_of(MqttConnector([*channels], options=options, codec=codec or JsonCodec()))


def out(topic: str = "plant/reading", name: str = "a", **limits: Any) -> Outbound[Any]:
    return Outbound(name, Reading, MqttRouting(topic, qos=1, retain=True), **limits)


def into(topic: str = "plant/reading", name: str = "a", **limits: Any) -> Inbound[Any]:
    return Inbound(name, Reading, MqttRouting(topic, qos=1), **limits)


def with_qos(qos: int, retain: bool = False) -> list[ChannelDescriptor[Any]]:
    """A channel that sends, or with `retain` too; and one that receives."""
    level: Any = qos
    return [
        Outbound("a", int, MqttRouting("a", qos=level, retain=retain)),
        Inbound("b", int, MqttRouting("b", qos=level)),
    ]


def said(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [str(change) for change in changes(old, new)]


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ([out(), out("b", "b")], [out()], ["breaking: mqtt.b: it is gone (send b)"]),
        (
            [into()],
            [out("x", "x")],
            ["breaking: mqtt.a: it is gone (receive plant/reading)", "compatible: mqtt.x: it is new (send x)"],
        ),
        ([out()], [out(), into("b", "b")], ["compatible: mqtt.b: it is new (receive b)"]),
        ([out()], [out("plant/x")], ["breaking: mqtt.a: its address has changed: it was plant/reading, it is plant/x"]),
        ([out()], [into()], ["breaking: mqtt.a: its direction has changed: it was send, it is receive"]),
        ([out()], [out(name="b")], ["compatible: mqtt.a: it is called mqtt.b now"]),
        (
            [into("x/+")],
            [into("$share/g/x/+")],
            ['compatible: mqtt.a: x-share-group of mqtt was not set, is "g"'],
        ),
        (
            with_qos(2),
            with_qos(1),
            ["breaking: mqtt.a: qos of mqtt was 2, is 1", "breaking: mqtt.b: qos of mqtt was 2, is 1"],
        ),
        (
            with_qos(0),
            with_qos(1),
            ["compatible: mqtt.a: qos of mqtt was 0, is 1", "compatible: mqtt.b: qos of mqtt was 0, is 1"],
        ),
        (with_qos(1, True), with_qos(1), ["breaking: mqtt.a: retain of mqtt was true, is false"]),
        (with_qos(1), with_qos(1, True), ["compatible: mqtt.a: retain of mqtt was false, is true"]),
        ([out()], [out(max_payload=10)], ["compatible: mqtt.a: its largest payload was 4096 bytes, is 10"]),
        ([into()], [into(max_payload=10)], ["breaking: mqtt.a: its largest payload was 4096 bytes, is 10"]),
        ([into()], [into(max_payload=5000)], ["compatible: mqtt.a: its largest payload was 4096 bytes, is 5000"]),
        ([into("+")], [into("+", max_topic=10)], ["breaking: mqtt.a: its largest topic was 512 bytes, is 10"]),
        (
            [into(max_metadata=100)],
            [into(max_metadata=10)],
            ["breaking: mqtt.a: its largest metadata was 100 bytes, is 10"],
        ),
        ([into(max_metadata=100)], [into()], ["compatible: mqtt.a: its largest metadata was 100 bytes, is 0"]),
        ([into()], [into(window=3)], ["compatible: mqtt.a: its window was 64, is 3"]),
    ],
)
def test_a_change(old: list[ChannelDescriptor[Any]], new: list[ChannelDescriptor[Any]], lines: list[str]) -> None:
    assert said(declared(*old), declared(*new)) == lines
    assert said(declared(*old), declared(*old)) == []


@pytest.mark.parametrize(
    ("wide", "narrow", "is_wider"),
    [
        ("x/+", "x/y", True),
        ("x/#", "x/+", True),
        ("x/#", "x/y/z", True),
        ("x/#", "x", True),
        ("#", "x/+/#", True),
        ("x/+", "x/y/z", False),
        ("x/+", "x", False),
        ("x/#", "x/+/z", True),
        ("x/+", "y/+", False),
    ],
)
def test_a_wider_or_narrower_address(wide: str, narrow: str, is_wider: bool) -> None:
    """To receive more than before breaks nobody, nor does to send to fewer topics."""
    for declare, old, new in ((into, narrow, wide), (out, wide, narrow)):
        forth = changes(declared(declare(old)), declared(declare(new)))[0]
        back = changes(declared(declare(new)), declared(declare(old)))[0]
        assert "its address has changed" in forth.what
        assert (forth.breaks, back.breaks) == (not is_wider, True)


def test_another_codec() -> None:
    old, new = declared(out()), declared(out(), codec=MsgpackCodec())
    line = "breaking: mqtt.a: its content type was application/json, is application/vnd.msgpack"
    assert said(old, new) == [line]


@pytest.mark.parametrize(("channel", "breaks_when_new"), [(out(), True), (into(), False)])
def test_compression(channel: ChannelDescriptor[Any], breaks_when_new: bool) -> None:
    plain, packed = declared(channel), declared(channel, codec=ZstdCodec(JsonCodec()))
    kinds = ("breaking", "compatible") if breaks_when_new else ("compatible", "breaking")
    assert said(plain, packed) == [f"{kinds[0]}: mqtt.a: a payload may be compressed by zstd now"]
    assert said(packed, plain) == [f"{kinds[1]}: mqtt.a: a payload can't be compressed by zstd any more"]


@pytest.mark.parametrize(
    ("declare", "lines"),
    [
        (Outbound, ["breaking: mqtt.a: field celsius is gone", "compatible: mqtt.a: field kelvin is new"]),
        (Inbound, ["breaking: mqtt.a: field kelvin is new, and required", "compatible: mqtt.a: field celsius is gone"]),
    ],
)
def test_a_renamed_field_is_one_that_is_gone_and_one_that_is_new(declare: Any, lines: list[str]) -> None:
    @attrs.frozen
    class Kelvin:
        kelvin: float

    old, new = (declared(declare("a", kind, MqttRouting("a"))) for kind in (Reading, Kelvin))
    assert sorted(said(old, new)) == sorted(lines)


# Documents that others have written


FOREIGN: dict[str, Any] = {
    "asyncapi": "3.0.0",
    "info": {"title": "by hand", "version": "1"},
    "defaultContentType": "application/json",
    "channels": {"lights": {"$ref": "#/components/channels/lights"}},
    "operations": {
        "on": {"action": "send", "channel": {"$ref": "#/channels/lights"}},
    },
    "components": {
        "channels": {
            "lights": {
                "address": "lights/{street}",
                "messages": {"on": {"$ref": "#/components/messages/on"}, "off": {"$ref": "#/components/messages/off"}},
            }
        },
        "messages": {
            "on": {
                "payload": {
                    "schemaFormat": "application/schema+json;version=draft-07",
                    "schema": {"$ref": "#/components/schemas/on"},
                }
            },
            "off": {"payload": {"type": "object", "title": "off", "properties": {"why": {"type": ["string", "null"]}}}},
        },
        "schemas": {
            "on": {
                "title": "on",
                "allOf": [
                    {
                        "type": "object",
                        "properties": {"lumens": {"type": "integer", "minimum": 0}},
                        "required": ["lumens"],
                    },
                    {"properties": {"colour": {"const": "white"}}},
                ],
            }
        },
    },
}


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (lambda them: None, []),
        (
            lambda them: them["schemas"]["on"]["allOf"][0].update(required=[]),
            ["breaking: lights: field lumens may be missing now"],
        ),
        (
            lambda them: them["schemas"]["on"]["allOf"][0].update(properties={}, required=[]),
            ["breaking: lights: field lumens is gone"],
        ),
        (
            lambda them: them["schemas"]["on"]["allOf"][0]["properties"]["lumens"].pop("minimum"),
            ["breaking: lights: field lumens was minimum 0, is minimum not set"],
        ),
        (
            lambda them: them["schemas"]["on"]["allOf"][1]["properties"]["colour"].update(const="red"),
            ['breaking: lights: field colour may be "red" now'],
        ),
        (
            lambda them: them["messages"]["off"]["payload"]["properties"]["why"].update(type="string"),
            ["compatible: lights: field why was string or null, is string"],
        ),
        (
            lambda them: them["channels"]["lights"].update(address="a/{road}"),
            ["breaking: lights: its address has changed: it was lights/{street}, it is a/{road}"],
        ),
    ],
)
def test_a_document_of_somebody_else(change: Callable[[dict[str, Any]], object], lines: list[str]) -> None:
    new = copy.deepcopy(FOREIGN)
    change(new["components"])
    assert said(FOREIGN, new) == lines


def test_a_parameter_with_another_name_is_nothing_that_others_see() -> None:
    new = copy.deepcopy(FOREIGN)
    new["components"]["channels"]["lights"]["address"] = "lights/{road}"
    [line] = said(FOREIGN, new)
    assert line.startswith("compatible: lights: a parameter of its address has another name")


def test_what_others_say_is_escaped_and_cut() -> None:
    new = copy.deepcopy(FOREIGN)
    new["channels"] = {"\x1b[31m" + "x" * 10_000: {"address": "a"}}
    new["operations"]["on"]["channel"] = {"$ref": f"#/channels/{next(iter(new['channels']))}"}
    for line in said(FOREIGN, new):
        assert line.isprintable()
        assert len(line) < 1000


@pytest.mark.parametrize("times", [1, 2])
def test_a_schema_that_contains_itself_without_end_is_refused(times: int) -> None:
    """With two references to itself it would be looked at 2**100 times."""
    document = declared(out())
    document["components"]["schemas"]["Reading"] = {"allOf": [{"$ref": "#/components/schemas/Reading"}] * times}
    with pytest.raises(ConfigError, match="too large to be compared"):
        changes(document, document)
