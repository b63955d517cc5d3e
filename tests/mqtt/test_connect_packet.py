"""Whatever `MqttOptions` accepts can be sent in a CONNECT, and a broker reads the same from it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio import Backoff, BrokerAddress, ConfigError, LastWill, MqttOptions
from taktora_trio.connectors.mqtt.presence import with_presence
from taktora_trio.connectors.mqtt.topics import UNSENDABLE
from taktora_trio.connectors.mqtt.wire import packets
from tests.brokers.packets import CONNECT, split


def read(data: bytes) -> dict[str, Any]:
    """As section 3.1 of both versions lays it out; written for this test, by nothing of the encoder's."""
    [asked], rest = split(data)
    assert (asked.first, rest) == (CONNECT << 4, b"")
    body, at = asked.body, 0

    def take(length: int) -> bytes:
        nonlocal at
        assert at + length <= len(body)
        at += length
        return body[at - length : at]

    def number(length: int) -> int:
        return int.from_bytes(take(length))

    def binary() -> bytes:
        return take(number(2))

    assert binary() == b"MQTT"
    found: dict[str, Any] = {"level": number(1)}
    flags = number(1)
    assert not flags & 1, "reserved (MQTT-3.1.2-3)"
    assert found["level"] == 5 or flags & 0x80 or not flags & 0x40, "no password without a user (MQTT-3.1.2-22)"
    found["clean"] = bool(flags & 2)
    found["keepalive"] = number(2)
    if found["level"] == 5:
        stop = number(1) + at
        while at < stop:
            kind = number(1)
            found[{0x11: "expiry", 0x21: "receive_maximum"}[kind]] = number(4 if kind == 0x11 else 2)
    found["client_id"] = binary().decode()
    if flags & 4:
        if found["level"] == 5:
            assert number(1) == 0, "the will has no properties"
        topic, payload = binary().decode(), binary()
        found["will"] = LastWill(topic, payload, flags >> 3 & 3, bool(flags & 0x20))  # type: ignore[arg-type]
    else:
        assert not flags & 0x38, "without a will there is nothing of it (MQTT-3.1.2-11, 13 and 15)"
    found["username"] = binary().decode() if flags & 0x80 else None
    found["password"] = binary() if flags & 0x40 else None
    assert at == len(body)
    return found


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.builds(
    str.__mul__, st.sampled_from("xé€𝄞"), st.sampled_from([16_383, 16_384, 21_845, 21_846, 32_768, 65_535, 65_536])
)
blobs = st.binary(max_size=40) | st.builds(bytes, st.sampled_from([65_535, 65_536]))
whole = st.integers(1, 65_535) | st.sampled_from([-1, 0, 1, 65_535, 65_536, 2**32 - 1, 2**32, 1.0, True, None, "1"])
anything = st.none() | st.booleans() | st.integers() | st.floats() | texts | blobs | st.lists(texts) | st.tuples()


def accepted(make: Any, **fields: Any) -> Any:
    """What is made of them, or `None` if they are refused. Nothing but `ConfigError` may come of it."""
    try:
        return make(**fields)
    except ConfigError:
        return None


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of these fields, each a little wrong at times."""
    return st.fixed_dictionaries({}, optional=fields)


@given(
    some(username=st.none() | texts, password=st.none() | blobs | texts),
    st.none() | some(topic=texts, payload=blobs | texts, qos=st.integers(-1, 4) | st.booleans(), retain=st.booleans()),
    some(
        client_id=st.none() | texts,
        protocol=st.sampled_from(["3.1.1", "5"]),
        persistent=st.none() | st.booleans(),
        keepalive=whole,
        receive_maximum=whole,
        session_expiry=whole,
        presence=st.none() | texts | st.just("a/{client_id}"),
    ),
)
def test_what_is_accepted_is_sent_as_it_is(login: dict[str, Any], will: Any, fields: dict[str, Any]) -> None:
    broker = accepted(BrokerAddress, host="host", port=1883, **login)
    if broker is not None:
        fields["broker"] = broker
    if will is not None:
        fields["will"] = accepted(LastWill, **{"topic": "a", "payload": b"", **will})
    options = accepted(MqttOptions, **fields)
    if options is None:
        return
    options, _ = with_presence(options)
    sent = read(packets.connect(options, options.client_id or "made-up"))
    v5 = options.protocol == "5"
    expected: dict[str, Any] = {
        "level": 5 if v5 else 4,
        "clean": not options.persistent,
        "keepalive": options.keepalive,
        "client_id": options.client_id or "made-up",
        "username": options.broker.username,
        "password": options.broker.password,
    }
    if options.will is not None:
        expected["will"] = options.will
    if v5:
        if options.receive_maximum is not None:
            expected["receive_maximum"] = options.receive_maximum
        if options.persistent and options.session_expiry:
            expected["expiry"] = options.session_expiry
    assert sent == expected
    for text in (sent["client_id"], sent["username"] or ""):
        assert not re.search(UNSENDABLE, text)


def test_the_largest_there_is() -> None:
    name, blob = "x" * 65_535, bytes(65_535)
    broker = BrokerAddress("host", 1883, username=name, password=blob)
    options = MqttOptions(broker=broker, client_id=name, will=LastWill(name, blob), protocol="5")
    assert read(packets.connect(options, name))["will"] == options.will


FIELDS = [
    (kind, field.alias) for kind in (BrokerAddress, LastWill, MqttOptions, Backoff) for field in kind.__attrs_attrs__
]
USUAL: dict[type, dict[str, object]] = {
    BrokerAddress: {"host": "host", "port": 1883},
    LastWill: {"topic": "a", "payload": b""},
    MqttOptions: {},
    Backoff: {},
}


@pytest.mark.parametrize(("kind", "field"), FIELDS)
@given(value=anything)
def test_whatever_a_field_is_given_it_is_accepted_or_refused(kind: type, field: str, value: object) -> None:
    accepted(kind, **{**USUAL[kind], field: value})


schemes = st.sampled_from(["", "mqtt://", "MQTTS://", "ws://", "wss://", "unix://", "http://"])
pieces = st.sampled_from(
    ["host", "me", ":", "@", "/", "?", "#", "[", "]", "%", "%25", "%00", "%FF", "::1", "1883", " ", "\n", "é", "\udcff"]
)


@given(schemes, st.lists(pieces | st.text(max_size=3), max_size=8).map("".join))
def test_whatever_a_url_is_it_is_parsed_or_refused(scheme: str, rest: str) -> None:
    address = accepted(BrokerAddress.parse, url=scheme + rest)
    if address is not None:
        assert BrokerAddress.parse(address.url) == address
        MqttOptions(broker=address, protocol="5")
