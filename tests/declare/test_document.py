"""The document says what the declarations say."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
import pydantic
import pytest

from taktora_trio import (
    ConfigError,
    Connector,
    Exchange,
    Inbound,
    JsonCodec,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
)
from taktora_trio.declare.document import Info, make_document
from tests.declare.kinds import KINDS, Reading, deployment
from tests.declare.rig import document_of


def messages(document: dict[str, Any], channel: str) -> dict[str, Any]:
    content: dict[str, Any] = document["channels"][channel]["messages"]["message"]
    return content


def bindings(document: dict[str, Any], operation: str) -> dict[str, Any]:
    content: dict[str, Any] = document["operations"][operation]["bindings"]["mqtt"]
    return content


@pytest.fixture(scope="module")
def kinds() -> dict[str, Any]:
    return document_of(*deployment.connectors)


@attrs.frozen
class Set:
    """A new setpoint."""

    unit: int
    celsius: float = 20.0


def test_each_channel_of_each_connector_has_an_operation(kinds: dict[str, Any]) -> None:
    declared = [
        ({"out": "send", "in": "receive"}[channel.direction], f"{connector.name}.{channel.name}")
        for connector in deployment.connectors
        for channel in connector.channels
    ]
    assert [*kinds["operations"]] == [f"{action}.{name}" for action, name in declared]
    assert [*kinds["channels"]] == [name for _, name in declared]
    for action, name in declared:
        operation = kinds["operations"][f"{action}.{name}"]
        assert operation["action"] == action
        assert operation["channel"] == {"$ref": f"#/channels/{name}"}


@pytest.mark.parametrize(
    ("topic", "address", "parameters"),
    [
        ("plant/alarm", "plant/alarm", {}),
        ("plant/{unit}/set", "plant/{unit}/set", {"unit": "$message.payload#/unit"}),
        ("plant/+/set/#", "plant/{level2}/set/{rest}", {"level2": None, "rest": None}),
        ("+/{unit}/+", "{level1}/{unit}/{level3}", {"level1": None, "unit": "$message.payload#/unit", "level3": None}),
        ("$share/workers/{unit}/set", "{unit}/set", {"unit": "$message.payload#/unit"}),
        ("#", "{rest}", {"rest": None}),
    ],
)
def test_addresses(topic: str, address: str, parameters: dict[str, str | None]) -> None:
    document = document_of(MqttConnector([Inbound("a", Set, MqttRouting(topic))]))
    channel = document["channels"]["mqtt.a"]
    assert channel["address"] == address
    assert {name: one.get("location") for name, one in channel.get("parameters", {}).items()} == parameters
    assert all(one["description"] for one in channel.get("parameters", {}).values())


def test_a_parameter_never_has_the_name_of_a_field() -> None:
    @attrs.frozen
    class Odd:
        level2: str
        rest: str

    document = document_of(MqttConnector([Inbound("a", Odd, MqttRouting("{level2}/+/{rest}/#"))]))
    assert document["channels"]["mqtt.a"]["address"] == "{level2}/{level2_}/{rest}/{rest_}"


def test_the_values_of_an_enum_in_the_topic(kinds: dict[str, Any]) -> None:
    for name in ("filled", "read"):
        assert kinds["channels"][f"mqtt.{name}"]["parameters"]["unit"]["enum"] == ["east", "west"]


def test_bindings() -> None:
    document = document_of(
        MqttConnector(
            [
                Outbound("out", int, MqttRouting("out", qos=2, retain=True), max_metadata=10),
                Inbound("in", int, MqttRouting("$share/workers/in/+", qos=1)),
            ],
            options=MqttOptions(protocol="5"),
        ),
        MqttConnector([Outbound("old", int, MqttRouting("old"))], name="old"),
    )
    sent = bindings(document, "send.mqtt.out")
    assert sent.pop("messageExpiryInterval")["type"] == "integer"
    assert sent == {"qos": 2, "retain": True, "bindingVersion": "0.2.0"}
    assert bindings(document, "receive.mqtt.in") == {
        "qos": 1,
        "x-topic-filter": "in/+",
        "x-share-group": "workers",
        "bindingVersion": "0.2.0",
    }
    assert bindings(document, "send.old.old") == {"qos": 0, "retain": False, "bindingVersion": "0.2.0"}
    assert {*messages(document, "mqtt.out")} == {"contentType", "payload", "headers", "bindings"}
    assert {*messages(document, "old.old")} == {"contentType", "payload"}


def test_the_requests_of_an_exchange_name_their_replies() -> None:
    ask = Exchange("ask", Set, float, MqttRouting("ask", qos=1))
    other = Outbound("ask-other", int, MqttRouting("other"))
    options = MqttOptions(protocol="5")
    document = document_of(MqttConnector([*ask.for_requester, *ask.for_responder, other], options=options))
    assert {
        name: one["reply"]["channel"]["$ref"] for name, one in document["operations"].items() if "reply" in one
    } == {
        "send.mqtt.ask-request": "#/channels/mqtt.ask-reply",
        "receive.mqtt.ask-requests": "#/channels/mqtt.ask-replies",
    }


def test_limits() -> None:
    channel = Inbound("a", int, MqttRouting("a/+"), max_payload=100, max_topic=50, max_metadata=20, window=7)
    document = document_of(MqttConnector([channel], options=MqttOptions(protocol="5")))
    limits = {key: value for key, value in document["channels"]["mqtt.a"].items() if key.startswith("x-")}
    assert limits == {"x-max-payload": 100, "x-max-topic": 50, "x-max-metadata": 20, "x-window": 7}


def test_what_is_received_may_lack_what_has_a_default_and_what_is_sent_has_all(kinds: dict[str, Any]) -> None:
    schemas = kinds["components"]["schemas"]
    assert messages(kinds, "mqtt.in0")["payload"] == {"$ref": "#/components/schemas/Reading"}
    assert messages(kinds, "mqtt.out0")["payload"] == {"$ref": "#/components/schemas/Reading-sent"}
    assert schemas["Reading"]["required"] == ["unit", "celsius"]
    assert schemas["Reading-sent"]["required"] == ["unit", "celsius", "tags", "spare"]
    assert schemas["Start"]["required"] == ["type", "motorId"]  # it leaves defaults out, so both ways are the same
    assert "Start-sent" not in schemas
    assert (schemas["Sample"]["minItems"], schemas["Sample-sent"]["minItems"]) == (1, 2)
    assert schemas["Step-sent"]["properties"]["after"]["anyOf"][0] == {"$ref": "#/components/schemas/Step-sent"}


@pytest.mark.parametrize("kind", KINDS[:5])
def test_each_field_that_is_said_to_be_sent_is_sent(kind: Any) -> None:
    """The encoder is asked, not the schema."""
    from tests.declare.kinds import Loose, Sample, Start, Step, Stop, Unit

    examples = [Reading(Unit.EAST, 3.0), Start(1), Stop(), Sample(1), Loose(k=3), Step("a")]
    [example] = [one for one in examples if type(one) is kind] or [examples[0]]
    sent = JsonCodec().encoder(type(example))(example)
    document = document_of(MqttConnector([Outbound("a", type(example), MqttRouting("a"))]))
    payload = document["components"]["schemas"][type(example).__name__]
    content = msgspec.json.decode(sent)
    if isinstance(content, list):
        assert len(content) >= payload["minItems"]
    else:
        assert {*payload["required"]} <= {*content} <= {*payload["properties"]}


def test_a_field_that_the_topic_fills_in_may_be_missing_where_it_is_received(kinds: dict[str, Any]) -> None:
    assert messages(kinds, "mqtt.read")["payload"]["required"] == ["celsius"]
    assert messages(kinds, "mqtt.filled")["payload"] == {"$ref": "#/components/schemas/Reading-sent"}
    document = document_of(MqttConnector([Inbound("a", Set, MqttRouting("a/{unit}"))]))
    assert "required" not in messages(document, "mqtt.a")["payload"]


def test_models_of_pydantic_are_described_by_pydantic(kinds: dict[str, Any]) -> None:
    schemas = kinds["components"]["schemas"]
    assert messages(kinds, "mqtt.in11")["payload"] == {"$ref": "#/components/schemas/Motor"}
    assert messages(kinds, "mqtt.out11")["payload"] == {"$ref": "#/components/schemas/Motor-sent"}
    assert schemas["Motor"]["required"] == ["unit", "speed"]
    assert schemas["Motor-sent"]["required"] == ["unit", "speed", "motorName", "since", "next", "pair"]
    assert schemas["Motor"]["description"] == "A motor, by pydantic."
    assert schemas["Motor"]["properties"]["speed"]["description"] == "In percent."
    assert schemas["Motor-sent"]["properties"]["next"]["anyOf"][0] == {"$ref": "#/components/schemas/Motor-sent"}
    assert schemas["Moved-sent"]["properties"]["motor"] == {"$ref": "#/components/schemas/Motor-sent"}
    assert schemas["Motor"]["properties"]["pair"]["items"] == [{"type": "integer"}, {"type": "string"}]
    channel = kinds["channels"]["models.motors"]
    assert {name: one["location"] for name, one in channel["parameters"].items()} == {
        "unit": "$message.payload#/unit",
        "name": "$message.payload#/motorName",
    }
    assert messages(kinds, "models.motors")["payload"]["required"] == ["speed"]


def test_a_model_and_another_class_of_the_same_name() -> None:
    class Set(pydantic.BaseModel):
        percent: int

    own = globals()["Set"]
    document = document_of(
        MqttConnector([Outbound("model", Set, MqttRouting("a")), Outbound("other", own, MqttRouting("b"))])
    )
    fields = {name: [*one["properties"]] for name, one in document["components"]["schemas"].items()}
    assert fields == {"Set": ["unit", "celsius"], "Set-model": ["percent"]}
    assert messages(document, "mqtt.model")["payload"] == {"$ref": "#/components/schemas/Set-model"}
    assert messages(document, "mqtt.other")["payload"] == {"$ref": "#/components/schemas/Set"}


def test_docstrings_are_descriptions(kinds: dict[str, Any]) -> None:
    assert kinds["components"]["schemas"]["Reading"]["description"] == "What a sensor has measured.\n\nOnce a second."
    assert kinds["components"]["schemas"]["Unit"]["description"] == "The halves of the plant."
    assert kinds["components"]["schemas"]["Stop"]["properties"]["count"]["description"] == "How often before."


def test_content_types_are_those_of_the_codecs(kinds: dict[str, Any]) -> None:
    assert messages(kinds, "mqtt.in0")["contentType"] == "application/json"
    assert messages(kinds, "packed.packed")["contentType"] == "application/vnd.msgpack"
    assert messages(kinds, "raw.any") == {
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "format": "binary"},
    }


def test_servers_are_named_without_what_is_secret() -> None:
    connector = MqttConnector([Outbound("a", int, MqttRouting("a"))], options=MqttOptions(protocol="5"))
    urls = ["mqtts://user:secret@broker.example", "wss://user:secret@broker.example/path?token=secret", "mqtt://[::1]"]
    document = make_document(Info("test", "1"), [connector], {"mqtt": [connector.describe_server(url) for url in urls]})
    servers = document["servers"]
    assert {name: (one["protocol"], one["host"], one.get("pathname")) for name, one in servers.items()} == {
        "mqtt": ("mqtts", "broker.example:8883", None),
        "mqtt-2": ("wss", "broker.example:443", "/path"),
        "mqtt-3": ("mqtt", "[::1]:1883", None),
    }
    assert document["channels"]["mqtt.a"]["servers"] == [{"$ref": f"#/servers/{name}"} for name in servers]
    assert "secret" not in repr(document)
    assert "user" not in repr(document)
    with pytest.raises(ConfigError, match="unix socket"):
        connector.describe_server("unix:///run/broker")


def test_a_connector_that_says_nothing_of_its_protocol() -> None:
    from examples.line_protocol import deployment as lines

    connector: Connector = lines.connectors[0]
    document = document_of(connector)
    assert [*document["channels"]] == [f"{connector.name}.{channel.name}" for channel in connector.channels]
    assert all("bindings" not in one for one in document["operations"].values())
    with pytest.raises(ConfigError, match="has no URLs"):
        connector.describe_server("mqtt://localhost")


def test_the_address_of_replies_has_a_level_for_each_client() -> None:
    add = Exchange("add", Set, int, MqttRouting("calculator/add", qos=1))
    connector = MqttConnector([*add.for_requester, *add.for_responder], options=MqttOptions(protocol="5"))
    document = document_of(connector)
    addresses = [channel["address"] for channel in document["channels"].values()]
    assert addresses == [
        "calculator/add",
        "calculator/add/replies/{client_id}",
        "calculator/add",
        "calculator/add/replies/{level4}",
    ]
    assert document["channels"]["mqtt.add-reply"]["parameters"]["client_id"]["description"]
