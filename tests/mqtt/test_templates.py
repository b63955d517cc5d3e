"""Templates by themselves, with the codecs, and over shared memory. With a broker: tests/deployment/test_topics.py."""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated, Any, TypedDict

import attrs
import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from taktora_trio import (
    CodecError,
    ConfigError,
    Inbound,
    JsonCodec,
    MessageError,
    Metadata,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    MsgpackCodec,
    Outbound,
    PayloadCodec,
    PayloadOverflow,
    RawCodec,
    TransportError,
)
from taktora_trio.connectors.gateway import open_connector_gateway
from taktora_trio.connectors.mqtt.topics import TEMPLATES, check_filter, check_topic, covers
from taktora_trio.connectors.plan import channel_spec, specs_of
from taktora_trio.host.open import open_connector_host
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from taktora_trio.transport.services import open_services
from tests.transport.rig import open_sending, open_taking


class Mode(enum.Enum):
    OFF = "off"
    HEAT = "heat"


class Stage(enum.IntEnum):
    ONE = 1
    TWO = 2


@attrs.frozen
class AttrsSetpoint:
    unit: str
    number: int
    on: bool
    mode: Mode
    stage: Stage
    value: float = 0.0


@dataclasses.dataclass(frozen=True)
class DataclassSetpoint:
    unit: str
    number: int
    on: bool
    mode: Mode
    stage: Stage
    value: float = 0.0


class StructSetpoint(msgspec.Struct, frozen=True, rename="camel", tag=True, forbid_unknown_fields=True):
    unit: str
    number: int
    on: bool
    mode: Mode
    stage: Stage
    value: float = 0.0


TYPES: list[Any] = [AttrsSetpoint, DataclassSetpoint, StructSetpoint]
CODECS: list[PayloadCodec] = [JsonCodec(), MsgpackCodec()]
ROUTING = MqttRouting("plant/{unit}/{number}/{on}/{mode}/{stage}/setpoint")
TOPIC = "plant/boiler 3/-7/true/heat/2/setpoint"
FIELDS = ("boiler 3", -7, True, Mode.HEAT, Stage.TWO)


@pytest.mark.parametrize("message_type", TYPES)
def test_fields_make_the_topic_and_the_topic_makes_the_fields(message_type: Any) -> None:
    to_topic, to_fields = ROUTING.topic_of(message_type), ROUTING.fields_of(message_type)
    assert to_topic
    assert to_topic(message_type(*FIELDS)) == TOPIC
    assert to_fields
    assert to_fields(TOPIC) == dict(zip(("unit", "number", "on", "mode", "stage"), FIELDS, strict=True))


def test_a_template_is_a_pattern_that_matches_what_it_makes() -> None:
    assert ROUTING.address == ROUTING.subscription == "plant/+/+/+/+/+/setpoint"
    assert ROUTING.is_pattern
    assert Outbound("a", AttrsSetpoint, ROUTING).topic_space == 512


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("message_type", TYPES)
def test_the_payload_may_lack_what_the_topic_says(message_type: Any, codec: PayloadCodec) -> None:
    encode, decode = codec.encoder(message_type), codec.filling_decoder(message_type)
    fields = dict(zip(("unit", "number", "on", "mode", "stage"), FIELDS, strict=True))
    whole = message_type(*FIELDS, value=1.5)
    assert decode(encode(whole), fields) == whole
    other = message_type("x", 1, False, Mode.OFF, Stage.ONE, value=1.5)
    assert decode(encode(other), fields) == whole, "what the topic says has precedence"
    lean = {"value": 1.5, **({"type": "StructSetpoint"} if message_type is StructSetpoint else {})}
    assert decode(codec.encoder(dict)(lean), fields) == whole
    for payload in (b"", b"{", codec.encoder(int)(5), codec.encoder(list)([])):
        with pytest.raises(CodecError, match=f"not a {codec.name}"):
            decode(payload, fields)


@attrs.frozen
class Named:
    name: str


NAMES = st.text(min_size=1, max_size=8) | st.text("ab/+#\0$ {}\n\ud800", max_size=4)


@settings(max_examples=500)
@given(NAMES, st.sampled_from(["{name}", "a/{name}", "{name}/b", "/{name}/"]))
def test_a_text_comes_back_as_it_went_out_or_is_refused(name: str, template: str) -> None:
    routing = MqttRouting(template)
    to_topic, to_fields = routing.topic_of(Named), routing.fields_of(Named)
    assert to_topic
    assert to_fields
    try:
        topic = to_topic(Named(name))
    except CodecError:
        first = template.startswith("{")
        assert not name or set(name) & set("/+#") or (first and name[0] == "$") or not sendable(name)
        return
    check_topic(topic)
    assert topic == template.replace("{name}", name)
    assert covers(routing.address, topic)
    assert to_fields(topic) == {"name": name}


def sendable(text: str) -> bool:
    try:
        check_topic(text)
    except ConfigError:
        return False
    return True


@given(st.integers(-(2**63), 2**64 - 1), st.booleans(), st.sampled_from(Mode), st.sampled_from(Stage))
def test_every_other_value_comes_back_as_it_went_out(number: int, on: bool, mode: Mode, stage: Stage) -> None:
    to_topic, to_fields = ROUTING.topic_of(AttrsSetpoint), ROUTING.fields_of(AttrsSetpoint)
    assert to_topic
    assert to_fields
    topic = to_topic(AttrsSetpoint("u", number, on, mode, stage))
    assert to_fields(topic) == {"unit": "u", "number": number, "on": on, "mode": mode, "stage": stage}


@settings(max_examples=500)
@given(st.text("a1_-{}/+#$ ", max_size=12))
def test_any_text_is_a_template_or_a_config_error(text: str) -> None:
    try:
        template = TEMPLATES.parse(text)
    except ConfigError:
        assert "{" in text or "}" in text
        return
    assert len(template.levels) == len(text.split("/"))
    assert "{" not in template.pattern
    if not template.fields:
        assert template.pattern == text
    try:
        check_filter(text)
    except ConfigError:
        return
    check_filter(template.pattern)


class ByPosition(msgspec.Struct, array_like=True):
    unit: str


class Optional(msgspec.Struct):
    unit: str | None
    value: float
    several: list[str]


class AsDict(TypedDict):
    unit: str


@pytest.mark.parametrize("kind", [Outbound, Inbound])
@pytest.mark.parametrize(
    ("message_type", "topic", "part"),
    [
        (Named, "a/{nix}", "Named has no field 'nix' for the topic; it has name"),
        (Optional, "a/{unit}", r"Optional.unit is .*: a field for the topic is a str, int, bool or enum"),
        (Optional, "a/{value}", r"Optional.value is .*float"),
        (Optional, "a/{several}", r"Optional.several is .*list"),
        (bytes, "a/{unit}", "bytes.* have no fields for the topic"),
        (AsDict, "a/{unit}", "have no fields for the topic"),
        (dict[str, str], "a/{unit}", "have no fields for the topic"),
        (Named, "a/x{name}", r"'x\{name\}' is no field of a message: it must be the whole level"),
        (Named, "a/{}", "is no field of a message"),
        (Named, "a/{na me}", "is no field of a message"),
        (Named, "a/}", "is no field of a message"),
        (Named, "a/{name}/{name}", "'name' can only stand at one level"),
    ],
)
def test_a_template_that_does_not_fit_its_message_is_refused_when_declared(
    kind: Any, message_type: Any, topic: str, part: str
) -> None:
    with pytest.raises(ConfigError, match=f"channel 'c': .*{part}"):
        kind("c", message_type, MqttRouting(topic))


def test_a_template_needs_a_codec_with_fields() -> None:
    class Unusual(RawCodec):
        name = "unusual"

        def _check(self, message_type: type) -> None: ...

    inbound = Inbound("c", Named, MqttRouting("a/{name}"))
    with pytest.raises(ConfigError, match="unusual codec have no fields that a topic could fill in: use JsonCodec"):
        MqttConnector([inbound], codec=Unusual())
    with pytest.raises(ConfigError, match="raw codec carries bytes"):
        MqttConnector([inbound], codec=RawCodec())
    with pytest.raises(ConfigError, match="not written with the names of their fields"):
        MqttConnector([Inbound("c", ByPosition, MqttRouting("a/{unit}"))])
    MqttConnector([Outbound("c", ByPosition, MqttRouting("a/{unit}"))])  # to write it nothing else is needed


def test_fields_and_wildcards_go_together_on_the_way_in() -> None:
    routing = MqttRouting("$share/workers/+/{name}/#")
    assert (routing.address, routing.subscription) == ("+/+/#", "$share/workers/+/+/#")
    to_fields = routing.fields_of(Named)
    assert to_fields
    for topic in ("a/b", "a/b/c", "/b/"):
        assert to_fields(topic) == {"name": "b"}
    Inbound("c", Named, routing)
    with pytest.raises(ConfigError, match="fields and wildcards don't go together on an outbound channel"):
        Outbound("c", Named, MqttRouting("+/{name}"))


class Limited(msgspec.Struct):
    number: Annotated[int, msgspec.Meta(ge=0)]


@pytest.mark.parametrize(
    ("message_type", "field", "level"),
    [
        (Limited, "number", "one"),
        (Limited, "number", ""),
        (Limited, "number", "-1"),
        (AttrsSetpoint, "number", "1.5"),
        (AttrsSetpoint, "on", "yes"),
        (AttrsSetpoint, "mode", "OFF"),
        (AttrsSetpoint, "stage", "3"),
    ],
)
def test_a_level_that_is_no_value_of_the_field(message_type: Any, field: str, level: str) -> None:
    to_fields = MqttRouting(f"a/{{{field}}}").fields_of(message_type)
    assert to_fields
    with pytest.raises(CodecError, match=f"level '{level}' of the topic is no '{field}'"):
        to_fields(f"a/{level}")


async def test_a_value_that_makes_no_topic_is_an_error_at_the_caller_and_nothing_is_sent(domain: Domain) -> None:
    routing = MqttRouting("plant/{name}/setpoint")
    outbound = Outbound("out", Named, routing, max_topic=24, window=8)
    connector = MqttConnector([outbound])
    with domain.hold("owner"):
        async with (
            open_node(domain, "test") as node,
            open_services(node, specs_of([connector])),
            open_connector_host(node, [connector]) as host,
            host.open_writer(outbound) as writer,
            open_taking(node, channel_spec(connector, outbound), routing.address) as gateway,
        ):
            await writer.send(Named("a"))
            for name in ("", "a/b", "+", "#", "a\0", "a\n", "a\ud800", "a\uffff", None, 1.5, b"a"):
                with pytest.raises(CodecError):
                    await writer.send(Named(name))  # type: ignore[arg-type]
                with pytest.raises(CodecError):
                    writer.send_nowait(Named(name))  # type: ignore[arg-type]
            with pytest.raises(PayloadOverflow, match="topic of 25"):
                await writer.send(Named("abcdefghij"))
            await writer.send(Named("b"), topic="plant/else/setpoint")
            for topic in ("plant/+/setpoint", "plant/x", "plant/x/setpoint/y", "a\0"):
                with pytest.raises(MessageError):
                    await writer.send(Named("c"), topic=topic)
            with pytest.raises(MessageError, match="give each message one with topic="):
                async with writer.loan(3):
                    pass
            async with writer.loan(3, topic="plant/lent/setpoint") as view:
                view[:] = b"abc"
            topics = [gateway.receive_nowait().topic for _ in range(3)]
            assert topics == ["plant/a/setpoint", "plant/else/setpoint", "plant/lent/setpoint"]
            with pytest.raises(trio.WouldBlock):
                gateway.receive_nowait()


@pytest.mark.parametrize("codec", CODECS)
async def test_what_the_topic_says_is_in_the_message(domain: Domain, codec: PayloadCodec) -> None:
    inbound = Inbound("in", AttrsSetpoint, ROUTING)
    connector = MqttConnector([inbound], codec=codec)
    payload = codec.encoder(dict)({"value": 1.5})
    with domain.hold("owner"):
        async with (
            open_node(domain, "test") as node,
            open_services(node, specs_of([connector])),
            open_connector_host(node, [connector]) as host,
            open_sending(node, channel_spec(connector, inbound)) as gateway,
            host.open_reader(inbound, on_error="raise") as reader,
        ):
            gateway.send_nowait(bytes(payload), topic=TOPIC)
            gateway.send_nowait(bytes(payload), topic=TOPIC.replace("heat", "cool"))
            gateway.send_nowait(bytes(payload), topic="plant/x")
            gateway.send_nowait(bytes(payload))
            gateway.send_nowait(bytes(payload), topic=TOPIC)
            received = reader.receive_nowait()
            assert (received.value, received.topic) == (AttrsSetpoint(*FIELDS, value=1.5), TOPIC)
            with pytest.raises(CodecError, match="level 'cool' of the topic is no 'mode'") as caught:
                reader.receive_nowait()
            assert caught.value.topic == TOPIC.replace("heat", "cool")
            with pytest.raises(CodecError, match="the topic has no level for 'stage'"):
                reader.receive_nowait()
            with pytest.raises(TransportError, match="names no topic"):
                reader.receive_nowait()
            assert reader.receive_nowait().value == AttrsSetpoint(*FIELDS, value=1.5)


async def test_the_gateway_takes_nothing_that_would_end_its_connection(domain: Domain) -> None:
    """It would be published again after each reconnect; only a broken plugin can have written it."""
    outbound = Outbound("out", Named, MqttRouting("plant/{name}"), max_metadata=100)
    connector = MqttConnector([outbound], options=MqttOptions(protocol="5"))
    with domain.hold("owner"):
        async with (
            open_node(domain, "test") as node,
            open_services(node, specs_of([connector])),
            open_connector_gateway(node, [connector], incarnation=1, name="gateway") as gateway,
            open_sending(node, channel_spec(connector, outbound)) as plugin,
        ):
            source = gateway._channels["mqtt"].outbound["out"]
            for topic in ("plant/#", "plant/a\x01", "elsewhere/a", "plant/a/b"):
                plugin.send_nowait(b"x", topic=topic)
                with pytest.raises(TransportError, match="an envelope was discarded: topic"):
                    source.receive_nowait()
            plugin.send_nowait(b"x", topic="plant/a", metadata=Metadata(content_type="a\n"))
            with pytest.raises(TransportError, match="an envelope was discarded: content type"):
                source.receive_nowait()
            plugin.send_nowait(b"x", topic="plant/a", metadata=Metadata(content_type="a"))
            received = source.receive_nowait()
            assert (received.topic, received.metadata) == ("plant/a", Metadata(content_type="a"))
