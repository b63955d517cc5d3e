"""The native session's protocol, byte by byte: what a broker may do, and whatever a hostile one does."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taktora_trio.channels import Metadata
from taktora_trio.connectors.mqtt.wire import packets
from taktora_trio.connectors.mqtt.wire.engine import Disconnected, Engine
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.connectors.mqtt.wire.packets import Malformed
from taktora_trio.connectors.mqtt.wire.reasons import TAKEN_OVER
from taktora_trio.connectors.mqtt.wire.state import SessionState

VERSIONS = pytest.mark.parametrize("version", [4, 5])
CONNACK = {4: b"\x20\x02\x00\x00", 5: b"\x20\x03\x00\x00\x00"}


class Client:
    """An engine, what it has delivered, and what became of what it published."""

    def __init__(self, version: int = 4, state: SessionState | None = None, max_payload: int = 1000) -> None:
        self.messages: list[Message] = []
        self.done: list[tuple[int, str]] = []
        self.acknowledges = True
        self.engine = Engine(version, state or SessionState(), self._deliver, lambda: None, max_payload)
        self._version = version

    def connect(self, connack: bytes | None = None) -> Client:
        self.engine.receive(CONNACK[self._version] if connack is None else connack)
        return self

    def receive(self, *parts: bytes) -> bytes:
        """What goes out in answer."""
        self.engine.receive(b"".join(parts))
        return self.take()

    def take(self) -> bytes:
        """What goes out."""
        data = self.engine.take()[0]
        return b"".join(data) if isinstance(data, list) else data

    def publish(self, packet_id: int, qos: int = 1, payload: bytes = b"x", retain: bool = False) -> bytes:
        self.engine.publish(
            Message("t", payload, qos, retained=retain), packet_id, lambda *answer: self.done.append(answer)
        )
        return self.take()

    def _deliver(self, message: Message) -> None:
        self.messages.append(message)
        if self.acknowledges and message.qos:
            self.engine.acknowledge(message)


def publish(
    version: int, topic: bytes, payload: bytes, qos: int = 0, packet_id: int = 1, properties: bytes = b"\0"
) -> bytes:
    variable = len(topic).to_bytes(2, "big") + topic + (packet_id.to_bytes(2, "big") if qos else b"")
    return packets.packet(0x30 | qos << 1, variable, properties if version == 5 else b"", payload)


# What is allowed


@VERSIONS
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_packets_may_come_in_any_pieces(version: int, size: int) -> None:
    client = Client(version)
    wire = CONNACK[version] + b"".join(publish(version, b"t", b"x" * n, 1, n + 1) for n in (0, 1, 100, 200, 900))
    for start in range(0, len(wire), size):
        client.engine.receive(wire[start : start + size])
    client.engine.receive(b"")
    assert [len(message.payload) for message in client.messages] == [0, 1, 100, 200, 900]
    assert client.take() == b"".join(b"\x40\x02" + (n + 1).to_bytes(2, "big") for n in (0, 1, 100, 200, 900))


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1])
def test_large_payloads_are_written_as_they_are_among_small_ones(version: int, qos: int) -> None:
    client = Client(version, max_payload=10**6).connect()
    small, large = b"s" * 100, [b"l" * 2**15, b"m" * 100_000]
    payloads = [small, large[0], small, large[1], large[1], small]
    expected = b""
    for number, payload in enumerate(payloads, 1):
        client.engine.publish(Message("t", payload, qos), number, lambda *answer: client.done.append(answer))
        expected += publish(version, b"t", payload, qos=qos, packet_id=number)
    parts, unwritten = client.engine.take()
    assert isinstance(parts, list)
    assert b"".join(parts) == expected
    assert len(parts) == 7  # small ones are put together, with the heads of large ones
    assert [part for part in parts if any(part is payload for payload in large)] == [large[0], large[1], large[1]]
    assert client.done == []  # none is done before it is written
    for on_done, packet_id in unwritten:
        on_done(packet_id, "")
    assert client.engine.take() == (b"", [])
    assert client.done == ([(number, "") for number in range(1, 7)] if qos == 0 else [])
    assert client.publish(7, payload=small, qos=0) == publish(version, b"t", small)


@VERSIONS
@pytest.mark.parametrize("read", [1, 1000, 4095, 4096, 4097, 40_000])
def test_a_large_message_may_come_in_any_pieces(version: int, read: int) -> None:
    client = Client(version, max_payload=100_000).connect()
    payloads = [bytes([number]) * (33_000 + number) for number in range(3)]
    stream = b"".join(publish(version, b"t", payload) for payload in payloads)
    for at in range(0, len(stream), read):
        client.receive(stream[at : at + read])
    assert [message.payload for message in client.messages] == payloads


@VERSIONS
@pytest.mark.parametrize("size", [1000, 2**15 - 1, 2**15, 65_536, 10**6], ids=str)
@pytest.mark.parametrize(
    ("topic", "properties"),
    [
        (b"t", b"\0"),
        (b"t" * 3000, b"\0"),
        (b"t", b"\x8c\x02\x26\0\x01n" + b"\x01\x06" + b"v" * 262),
        (b"t", b"\x05\x09\0\x02id"),
    ],
    ids=["plain", "a long topic", "long properties", "a correlation id"],
)
def test_large_messages_are_whole_among_others(version: int, size: int, topic: bytes, properties: bytes) -> None:
    """Reads end anywhere, so that they begin in one and end in another, with small ones around them."""
    client = Client(version, max_payload=10**6).connect()
    payload = bytes(range(256)) * (10**6 // 256 + 1)
    sizes = [5, size, size - 7, 0, size, 3]
    stream = b"".join(
        publish(version, topic, payload[:length], qos=number % 3, packet_id=number + 1, properties=properties)
        for number, length in enumerate(sizes)
    )
    answers = b"".join(client.receive(stream[at : at + 65_536]) for at in range(0, len(stream), 65_536))
    assert [len(message.payload) for message in client.messages] == sizes
    for number, message in enumerate(client.messages):
        assert type(message.payload) is bytes
        assert message.payload == payload[: len(message.payload)]
        assert (message.topic, message.qos) == (topic.decode(), number % 3)
        if version == 5:
            assert message.correlation_id == (b"id" if b"id" in properties else b"")
            assert (message.metadata is not None) == (b"v" in properties)
    assert answers == b"\x40\x02\x00\x02" + b"\x50\x02\x00\x03" + b"\x40\x02\x00\x05" + b"\x50\x02\x00\x06"
    again = client.receive(publish(version, topic, payload[:size], qos=2, packet_id=6, properties=properties))
    assert again == b"\x50\x02\x00\x06"
    assert len(client.messages) == len(sizes)  # it has that one


@VERSIONS
@settings(max_examples=30)
@given(data=st.data())
def test_large_messages_are_read_to_where_they_stay(version: int, data: st.DataObject) -> None:
    """In whatever pieces, and whether a piece goes there, with or without what comes behind, or to `receive`."""
    client = Client(version, max_payload=200_000).connect()
    sizes = data.draw(st.lists(st.sampled_from([0, 5, 32_700, 33_000, 40_000, 70_000]), min_size=1, max_size=5))
    payloads = [random.Random(number).randbytes(size) for number, size in enumerate(sizes)]
    stream = b"".join(publish(version, b"t", payload, 1, n + 1) for n, payload in enumerate(payloads))
    at = 0
    while at < len(stream):
        count = data.draw(st.sampled_from([999, 4096, 5000, 30_000, 65_536]))
        piece = stream[at : at + count]
        at += len(piece)
        if (room := client.engine.room) is not None and data.draw(st.booleans()):
            fits = min(len(room), len(piece))
            room[:fits] = piece[:fits]
            client.engine.filled(fits)
            piece = piece[fits:]
        if piece:
            client.engine.receive(piece)
    assert client.engine.room is None
    assert [message.payload for message in client.messages] == payloads
    assert {type(message.payload) for message in client.messages} == {bytes}


def test_what_was_read_to_its_place_is_not_copied() -> None:
    client = Client(5, max_payload=100_000).connect()
    stream = publish(5, b"t", b"x" * 100_000)
    client.engine.receive(stream[:5000])
    assert client.engine._begun is not None
    _, whole = client.engine._begun
    client.engine.receive(stream[5000:])
    (message,) = client.messages
    assert message.payload is whole.getvalue()


names = st.text(st.characters(codec="utf-8"), max_size=20)
metadata = st.builds(
    Metadata,
    content_type=names,
    response_topic=names,
    message_expiry=st.none() | st.integers(0, 2**32 - 1),
    user_properties=st.lists(st.tuples(names, names), max_size=3).map(tuple),
)


@given(
    st.none() | metadata,
    st.binary(max_size=60),
    names.filter(bool),
    st.binary(max_size=300),
    st.integers(0, 2),
    st.integers(1, 65_535),
)
def test_what_is_encoded_is_decoded(
    said: Metadata | None, data: bytes, topic: str, payload: bytes, qos: int, packet_id: int
) -> None:
    sender, receiver = Client(5).connect(), Client(5).connect()
    sent = Message(topic, payload, qos, metadata=said, correlation_id=data)
    sender.engine.publish(sent, packet_id, lambda *_: None)
    receiver.receive(sender.take())
    expected = said if said != Metadata() else None
    assert receiver.messages == [
        Message(
            topic,
            payload,
            qos,
            reliable=qos > 0,
            delivery_id=packet_id if qos else 0,
            order=qos,
            metadata=expected,
            correlation_id=data,
        )
    ]


@VERSIONS
def test_qos_2_comes_once_however_often_it_is_sent(version: int) -> None:
    client = Client(version).connect()
    again = publish(version, b"t", b"x", 2, 7)
    assert client.receive(again) == b"\x50\x02\x00\x07"
    assert client.receive(again) == b"\x50\x02\x00\x07"
    assert len(client.messages) == 1
    assert client.receive(b"\x62\x02\x00\x07") == b"\x70\x02\x00\x07"
    assert client.receive(publish(version, b"t", b"another", 2, 7)) == b"\x50\x02\x00\x07"
    assert len(client.messages) == 2


def test_a_half_done_exchange_goes_on_with_the_next_connection() -> None:
    state = SessionState()
    first = Client(4, state).connect()
    assert first.publish(9, 2) == b"\x34\x06\x00\x01t\x00\x09x"
    assert first.receive(b"\x50\x02\x00\x09") == b"\x62\x02\x00\x09"
    second = Client(4, state).connect(b"\x20\x02\x01\x00")
    assert second.publish(9, 2) == b"\x62\x02\x00\x09", "the broker has the message (MQTT-4.3.3-1)"
    second.receive(b"\x70\x02\x00\x09")
    assert second.done == [(9, "")]
    third = Client(4, state).connect()
    assert third.publish(9, 2)[0] == 0x34


def test_a_broker_that_kept_nothing_gets_all_of_it_again() -> None:
    state = SessionState()
    first = Client(4, state).connect()
    first.publish(9, 2)
    first.receive(b"\x50\x02\x00\x09")
    assert Client(4, state).connect(b"\x20\x02\x00\x00").publish(9, 2)[0] == 0x34


def test_the_receive_maximum_is_kept_and_the_order_with_it() -> None:
    client = Client(5).connect(b"\x20\x06\x00\x00\x03\x21\x00\x02")
    sent = [client.publish(number) for number in range(1, 6)]
    assert [bool(data) for data in sent] == [True, True, False, False, False]
    assert client.receive(b"\x40\x02\x00\x01")[-4:-2] == b"\x00\x03"
    client.receive(b"\x40\x02\x00\x02\x40\x02\x00\x03")
    client.receive(b"\x40\x02\x00\x04\x40\x02\x00\x05")
    assert client.done == [(number, "") for number in range(1, 6)]


@pytest.mark.parametrize(
    ("properties", "message", "refusal"),
    [
        (b"\x24\x01", {"qos": 2}, "QoS not supported: the broker takes at most QoS 1"),
        (b"\x25\x00", {"retain": True}, "Retain not supported"),
        (b"\x27\x00\x00\x00\x20", {"payload": b"x" * 25}, "Packet too large: the broker takes at most 32 bytes"),
    ],
)
def test_what_the_broker_has_said_it_does_not_take_is_not_sent(
    properties: bytes, message: dict[str, object], refusal: str
) -> None:
    client = Client(5).connect(packets.packet(0x20, b"\0\0", packets.varint(len(properties)), properties))
    assert client.publish(1, **message) == b""  # type: ignore[arg-type]
    assert client.done == [(1, refusal)]
    assert len(client.publish(2, payload=b"x" * 24)) == 32, "it takes what is just small enough"


def test_refusals_have_names() -> None:
    client = Client(5).connect()
    client.publish(1, 1)
    client.publish(2, 2)
    client.publish(3, 2)
    client.publish(4, 1)
    client.receive(b"\x40\x03\x00\x01\x97")
    client.receive(b"\x50\x03\x00\x02\x87")
    client.receive(b"\x50\x02\x00\x03", b"\x70\x03\x00\x03\x92")
    client.receive(b"\x40\x03\x00\x04\x10")
    assert client.done == [(1, "Quota exceeded"), (2, "Not authorized"), (3, ""), (4, "")]


def test_a_farewell_has_a_name() -> None:
    with pytest.raises(Disconnected, match="Session taken over") as caught:
        Client(5).connect().receive(b"\xe0\x02\x8e\x00")
    assert caught.value.code == TAKEN_OVER
    with pytest.raises(Disconnected, match="normal disconnection") as caught:
        Client(5).connect().receive(b"\xe0\x00")
    assert caught.value.code == 0


@VERSIONS
def test_subscriptions_are_refused_by_name(version: int) -> None:
    client = Client(version).connect()
    client.engine.subscribe([("a", 1), ("b", 2), ("c", 0)])
    codes = b"\x01\x80\x87" if version == 5 else b"\x01\x80\x00"
    client.receive(packets.packet(0x90, b"\xff\xff", b"\0" if version == 5 else b"", codes))
    assert client.engine.refused == ({"b": "Unspecified error"} | ({"c": "Not authorized"} if version == 5 else {}))
    assert client.engine.granted["a"] == 1


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1])
def test_a_payload_that_no_channel_takes_is_not_kept(version: int, qos: int) -> None:
    client = Client(version, max_payload=1000).connect()
    size = 5_000_000
    wire = publish(version, b"big", b"x" * size, qos) + publish(version, b"small", b"y")
    most = 0
    for start in range(0, len(wire), 60_000):
        client.engine.receive(wire[start : start + 60_000])
        most = max(most, len(client.engine._rest))
    assert most < 400_000
    assert [(m.topic, len(m.payload), m.skipped) for m in client.messages] == [("big", 0, size), ("small", 1, 0)]
    assert client.take() == (b"\x40\x02\x00\x01" if qos else b"")


# What is not


MALFORMED = [
    b"\x00\x00",  # no type
    b"\x10\x00",  # CONNECT, from a broker
    b"\x20\x02\x00\x00",  # CONNACK a second time
    b"\x30\x80\x80\x80\x80\x01",  # a length of five bytes
    b"\x30\xff\xff\xff\xff",
    b"\xd0\xff\xff\xff\x7f",  # PINGRESP with 268,435,455 bytes
    b"\x30\x00",
    b"\x30\x01\x00",
    b"\x30\x02\x00\x01",  # a topic longer than its packet
    b"\x30\x02\x00\x00",  # an empty topic
    b"\x30\x03\x00\x01\xff",  # no UTF-8
    b"\x36\x05\x00\x01t\x00\x01",  # QoS 3
    b"\x32\x05\x00\x01t\x00\x00",  # packet identifier 0
    b"\x32\x04\x00\x01t\x00",
    b"\x40\x00",
    b"\x40\x01\x00",
    b"\x60\x02\x00\x01",  # PUBREL with the wrong flags
    b"\x90\x03\x00\x01\x00",  # a SUBACK that nobody waits for
    b"\xb0\x02\x00\x01",
    b"\xf0\x00",
]


@VERSIONS
@pytest.mark.parametrize("data", MALFORMED)
def test_what_mqtt_does_not_allow_ends_the_session(version: int, data: bytes) -> None:
    with pytest.raises(Malformed):
        Client(version).connect().receive(data)


@pytest.mark.parametrize(
    "properties",
    [
        b"\x05\x03\x00\x01x",  # longer than the packet
        b"\x01\x7f",  # unknown
        b"\x06\x03\x00\x00\x03\x00\x00",  # twice
        b"\x02\x09\x00",
        b"\x03\x23\x00\x01",  # a topic alias, which was not allowed
        b"\x04\x03\x00\x01\xff",  # no UTF-8
        b"\xff\xff\xff\xff\x01",
    ],
)
def test_properties_that_mqtt_5_does_not_allow_end_the_session(properties: bytes) -> None:
    with pytest.raises(Malformed):
        Client(5).connect().receive(packets.packet(0x30, b"\0\x01t", properties))


@pytest.mark.parametrize(
    "connack",
    [b"HTTP/1.1 400 Bad Request\r\n", b"\x30\x03\x00\x01t", b"\x20\x00", b"\x20\x01\x00", b"\x20\x02\x02\x00"],
)
@VERSIONS
def test_an_answer_to_connect_that_is_none(version: int, connack: bytes) -> None:
    with pytest.raises(Malformed):
        Client(version).connect(connack)


def ack(kind: str, packet_id: int = 7, code: int = 0) -> bytes:
    first = {"PUBACK": 0x40, "PUBREC": 0x50, "PUBREL": 0x62, "PUBCOMP": 0x70}[kind]
    return packets.packet(first, packet_id.to_bytes(2, "big"), bytes((code,)) if code else b"")


# What was published, what came before, and the answer: then what is sent, and whether the message is done with.
FITTING = [
    (1, [], "PUBACK", b"", True),
    (2, [], "PUBREC", ack("PUBREL"), False),
    (2, ["PUBREC"], "PUBREC", ack("PUBREL"), False),
    (2, ["PUBREC"], "PUBCOMP", b"", True),
    (2, ["PUBREC", "PUBREC"], "PUBCOMP", b"", True),
    (2, ["PUBREC", "PUBREC", "PUBCOMP"], "PUBCOMP", b"", True),
    (2, [], "PUBACK", b"", True),  # as RabbitMQ before 4 does
    (None, [], "PUBREC", ack("PUBREL"), False),  # an exchange of before this process comes to its end
    (None, ["PUBREC"], "PUBCOMP", b"", False),
    (None, [], "PUBREL", None, False),
]
UNFITTING = [
    (1, [], "PUBREC"),
    (1, [], "PUBCOMP"),
    (1, ["PUBACK"], "PUBACK"),
    (2, [], "PUBCOMP"),
    (2, ["PUBACK"], "PUBACK"),
    (2, ["PUBREC"], "PUBACK"),
    (2, ["PUBREC", "PUBCOMP"], "PUBCOMP"),
    (None, [], "PUBACK"),
    (None, [], "PUBCOMP"),
    (None, ["PUBREC", "PUBCOMP"], "PUBCOMP"),
]


def exchange(version: int, qos: int | None, before: list[str]) -> Client:
    client = Client(version).connect()
    if qos is not None:
        client.publish(7, qos)
    client.receive(*map(ack, before))
    return client


@VERSIONS
@pytest.mark.parametrize(("qos", "before", "kind", "answer", "done"), FITTING)
def test_an_acknowledgement_that_fits(
    version: int, qos: int | None, before: list[str], kind: str, answer: bytes | None, done: bool
) -> None:
    client = exchange(version, qos, before)
    if answer is None:  # PUBREL for nothing: MQTT 5 has a reason code for it
        answer = ack("PUBCOMP", code=0x92 if version == 5 else 0)
    assert client.receive(ack(kind)) == answer
    assert client.done == ([(7, "")] if done else [])


@VERSIONS
@pytest.mark.parametrize(("qos", "before", "kind"), UNFITTING)
def test_an_acknowledgement_that_does_not_fit_ends_the_session(
    version: int, qos: int | None, before: list[str], kind: str
) -> None:
    client = exchange(version, qos, before)
    with pytest.raises(Malformed, match=f"a {kind} for 7, of which none was to come"):
        client.receive(ack(kind))


@VERSIONS
@pytest.mark.parametrize("code", [0, 0x92])
@pytest.mark.parametrize("before", [[], ["PUBREC"]], ids=["", "told of by the broker"])
def test_what_is_released_is_complete_when_the_broker_says_so(version: int, code: int, before: list[str]) -> None:
    client, complete = exchange(version, None, before), list[int]()
    client.engine.release(7, lambda packet_id, refusal: complete.append(packet_id))
    assert client.take() == (b"" if before else ack("PUBREL"))
    assert complete == []
    client.receive(ack("PUBCOMP", code=code if version == 5 else 0))
    assert complete == [7]
    assert client.publish(7, 2)[0] >> 4 == packets.PUBLISH
    with pytest.raises(Malformed):
        client.receive(ack("PUBCOMP"))


def test_a_message_under_an_identifier_that_was_released_is_a_new_one() -> None:
    state = SessionState()
    client = Client(state=state).connect()
    client.publish(7, 2)
    client.receive(ack("PUBREC"))  # and then that message is given up
    client = Client(state=state).connect(b"\x20\x02\x01\x00")
    client.engine.release(7, lambda *_: None)
    client.receive(ack("PUBCOMP"))
    assert client.publish(7, 2)[0] >> 4 == packets.PUBLISH


def test_with_mqtt_5_a_refusal_must_fit_too() -> None:
    assert exchange(5, 2, []).receive(ack("PUBREC", code=0x97)) == b""
    with pytest.raises(Malformed, match="a PUBREC for 7"):
        exchange(5, None, []).receive(ack("PUBREC", code=0x97))


def test_a_broker_that_lowers_qos_2_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    client = Client().connect()
    for packet_id in (1, 2, 3):
        client.publish(packet_id, 2)
    client.receive(ack("PUBACK", 1), ack("PUBACK", 2), ack("PUBACK", 3))
    assert client.done == [(1, ""), (2, ""), (3, "")]
    assert len(caplog.messages) == 1
    assert "acknowledges messages of QoS 2 by PUBACK" in caplog.text


@VERSIONS
@pytest.mark.parametrize("qos", [1, 2])
def test_a_broker_that_goes_on_before_it_was_answered_ends_the_session(version: int, qos: int) -> None:
    client = Client(version).connect()
    client.acknowledges = False
    client.receive(publish(version, b"t", b"x", qos, 7))
    with pytest.raises(Malformed, match="a PUBREL for 7, which was not received yet"):
        client.receive(ack("PUBREL"))


@VERSIONS
@pytest.mark.parametrize("qos", [1, 2])
def test_an_identifier_that_is_in_use_ends_the_session(version: int, qos: int) -> None:
    client = Client(version).connect()
    client.acknowledges = False
    client.receive(publish(version, b"t", b"x", qos, 5))
    with pytest.raises(Malformed, match="packet identifier 5 is in use"):
        client.receive(publish(version, b"t", b"x", qos, 5))


def pieces() -> st.SearchStrategy[bytes]:
    """Bytes that are nearly packets, so that a fuzzer comes deep into the parser."""
    body = st.binary(max_size=30) | st.builds(
        lambda topic, rest: len(topic).to_bytes(2, "big") + topic + rest, st.binary(max_size=4), st.binary(max_size=20)
    )
    whole = st.builds(lambda first, data: packets.packet(first, data), st.integers(0, 255), body)
    acks = st.builds(
        lambda first, number, rest: packets.packet(first, number.to_bytes(2, "big"), rest),
        st.sampled_from([0x40, 0x50, 0x62, 0x70, 0x90]),
        st.integers(0, 9) | st.just(65_535),
        st.binary(max_size=3),
    )
    truncated = st.builds(lambda data, cut: data[:cut], whole, st.integers(0, 10))
    oversized = st.builds(
        lambda first, n: bytes((first,)) + packets.varint(n), st.integers(0, 255), st.integers(0, 2**28 - 1)
    )
    return whole | acks | truncated | oversized | st.binary(max_size=20)


def feed(client: Client, chunks: Iterable[bytes]) -> None:
    """The only ways out are the two that the session turns into `SessionLost` and `ConnectFailed`."""
    fed = 0
    with contextlib.suppress(Malformed, Disconnected):
        for chunk in chunks:
            client.engine.receive(chunk)
            client.engine.take()
            fed += len(chunk)
    assert len(client.engine._rest) <= fed + 30


@settings(max_examples=300)
@given(st.sampled_from([4, 5]), st.booleans(), st.lists(pieces(), max_size=12))
@example(5, True, [b"\x30\x04\x00\x01t\x80", b"\x01"])
def test_whatever_comes_it_ends_with_a_typed_error_or_goes_on(
    version: int, connected: bool, chunks: list[bytes]
) -> None:
    client = Client(version, max_payload=50)
    if connected:
        client.connect()
        client.engine.subscribe([("a", 1), ("b", 2)])
        for number in range(1, 9):
            client.publish(number, number % 3)
    feed(client, chunks)
    assert len({number for number, _ in client.done}) == len(client.done), "nothing is done twice"


@settings(max_examples=100)
@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 2**16))
def test_any_order_of_acknowledgements_finishes_each_message_once(kinds: list[int], seed: int) -> None:
    client = Client(5).connect(b"\x20\x06\x00\x00\x03\x21\x00\x03")
    for number in range(1, 7):
        client.publish(number, 1 + number % 2)
    names = ["PUBACK", "PUBREC", "PUBCOMP", "PUBREL", "PUBACK", "PUBCOMP"]
    feed(client, (ack(names[kind], 1 + (seed >> kind) % 6) for kind in kinds))
    state = client.engine._state
    again = Client(5, state).connect(b"\x20\x06\x01\x00\x03\x21\x00\x03")  # then a broker that behaves
    for number in {1, 2, 3, 4, 5, 6} - {number for number, _ in client.done}:
        sent = [again.publish(number, 1 + number % 2)]
        while sent:
            data = sent.pop()
            if data:
                packet_id = int.from_bytes(data[2:4] if data[0] == 0x62 else data[5:7], "big")
                sent.append(again.receive(ack({0x32: "PUBACK", 0x34: "PUBREC", 0x62: "PUBCOMP"}[data[0]], packet_id)))
    assert sorted(client.done + again.done) == [(number, "") for number in range(1, 7)]
