"""Exchange: what is declared once, as the channels of both sides."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from taktora_trio import (
    ConfigError,
    Exchange,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
    Routing,
)

MQTT_5 = MqttOptions(protocol="5")
MISPLACED: Any = (MqttRouting("a"), int, str)


@attrs.frozen
class Command:
    unit: str
    speed: int


def exchange(**more: Any) -> Exchange[int, str]:
    return Exchange("add", int, str, MqttRouting("calculator/add", qos=1), **more)


def test_each_side_has_its_channels() -> None:
    add = exchange(max_request=100, max_reply=200, window=8, max_metadata=300)
    request, reply = add.for_requester
    requests, replies = add.for_responder
    assert [type(channel) for channel in (request, reply, requests, replies)] == [Outbound, Inbound, Inbound, Outbound]
    names = [channel.name for channel in (request, reply, requests, replies)]
    assert names == ["add-request", "add-reply", "add-requests", "add-replies"]
    assert [channel.message_type for channel in (request, reply, requests, replies)] == [int, str, int, str]
    assert [channel.max_payload for channel in (request, reply, requests, replies)] == [100, 200, 100, 200]
    assert {channel.window for channel in (request, reply, requests, replies)} == {8}
    assert {channel.exchange for channel in (request, reply, requests, replies)} == {"add"}
    assert [channel.routing for channel in (request, reply, requests, replies)] == [
        MqttRouting("calculator/add", qos=1),
        MqttRouting("calculator/add/replies", qos=1, per_client=True),
        MqttRouting("calculator/add", qos=1),
        MqttRouting("calculator/add/replies/+", qos=1),
    ]
    assert add.for_requester[0] is request, "the host knows a channel by its identity"


def test_one_connector_can_have_both_sides() -> None:
    add = exchange()
    connector = MqttConnector([*add.for_requester, *add.for_responder], options=MQTT_5)
    assert len(connector.channels) == 4


def test_responders_can_share_the_requests() -> None:
    requests, _ = exchange(share="workers").for_responder
    assert requests.routing == MqttRouting("$share/workers/calculator/add", qos=1)


def test_a_topic_with_fields_needs_one_for_the_replies() -> None:
    routing = MqttRouting("plant/{unit}/command", qos=2)
    with pytest.raises(ConfigError, match=r"exchange 'command': topic .* is a pattern.*replies=MqttRouting"):
        Exchange("command", Command, bool, routing)
    command = Exchange("command", Command, bool, routing, replies=MqttRouting("plant/replies", qos=2))
    assert command.for_requester[1].routing.address == "plant/replies/{client_id}"
    assert command.for_responder[1].routing.address == "plant/replies/+"


def test_replies_to_clients_of_other_kinds() -> None:
    add = exchange(replies=MqttRouting("clients/#", qos=1))
    assert add.for_responder[1].routing.address == "clients/#"
    with pytest.raises(ConfigError, match="per_client is for an inbound channel of one topic"):
        _ = add.for_requester


class Addressed(Routing):
    """Of a protocol that has no request and reply."""

    @property
    def address(self) -> str:
        return "a"

    @property
    def is_pattern(self) -> bool:
        return False

    def check(self, direction: str) -> None: ...


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: Exchange("add", int, str, Addressed()), "exchange 'add': Addressed has no request and reply"),
        (
            lambda: Exchange("add", int, str, Addressed(), replies=Addressed()),
            "exchange 'add': Addressed has no addresses of a deployment's own",
        ),
        (
            lambda: Exchange("add", *MISPLACED),
            r"write Exchange\(name, request_type, reply_type, rout",
        ),
        (lambda: Exchange("a b", int, str, MqttRouting("a")), "exchange name 'a b'"),
        (lambda: Exchange("x" * 51, int, str, MqttRouting("a")), "use at most 50 characters"),
        (lambda: Exchange("add", int, str, MqttRouting("a", retain=True)), "a retained request would come at each"),
        (lambda: Exchange("add", int, str, MqttRouting("$share/g/a")), "and the group by share="),
        (lambda: exchange(share=7), "exchange 'add': share is 7"),
        (lambda: exchange(share="a/#"), "exchange 'add': channel 'add-requests'.*"),
        (lambda: exchange(max_metadata=100), "Exchange: max_metadata is 100; it must be a whole number from 256"),
        (lambda: exchange(window=0), "Exchange: window is 0"),
        (lambda: exchange(replies="a"), "Exchange: replies is of type str"),
    ],
)
def test_what_can_not_work_is_said_where_it_is_declared(make: Any, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        make()


@pytest.mark.parametrize("side", ["for_requester", "for_responder"])
def test_mqtt_3_1_1_is_refused_where_the_connector_is_declared(side: str) -> None:
    with pytest.raises(ConfigError, match=r"exchange 'add' needs correlation ids: MQTT 3\.1\.1 carries .*protocol='5'"):
        MqttConnector(getattr(exchange(), side))


def test_a_codec_that_can_not_carry_a_type_says_so() -> None:
    with pytest.raises(ConfigError):
        MqttConnector(exchange().for_requester, options=MQTT_5, codec=RawCodec())
