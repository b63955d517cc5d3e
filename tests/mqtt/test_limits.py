"""The limits that a broker announces (MQTT 5, section 3.2.2.3) hold for every session."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from taktora_trio.channels import Metadata
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.connectors.mqtt.wire.limits import BrokerLimits
from taktora_trio.connectors.mqtt.wire.message import Message
from tests.brokers.hostile import Peer, open_hostile_broker
from tests.brokers.packets import CONNACK, PINGREQ, PUBACK, PUBLISH, SUBSCRIBE, packet

SESSIONS = pytest.mark.parametrize("session", ["native", "aiomqtt"])


def connack(properties: bytes) -> bytes:
    return packet(CONNACK, b"\0\0" + bytes([len(properties)]) + properties)


def options(session: Any, url: str) -> MqttOptions:
    return MqttOptions(broker=url, session=session, protocol="5", keepalive=60)


@SESSIONS
async def test_no_more_are_on_their_way_than_it_takes(session: Any) -> None:
    waiting, most, done = list[bytes](), 0, list[int]()
    all_done = trio.Event()

    async def play(peer: Peer) -> None:
        nonlocal most
        await peer.connect()
        await peer.send(connack(b"\x21\0\3"))
        for number in range(60):
            waiting.append((await peer.read(PUBLISH)).published().packet_id)
            most = max(most, len(waiting))
            if len(waiting) == 3 or number >= 57:
                with trio.move_on_after(0.01):  # if a fourth is on its way, it comes
                    await peer.read(PUBLISH)
                    most += 1
                await peer.send(packet(PUBACK, waiting.pop(0)))
        for packet_id in waiting:
            await peer.send(packet(PUBACK, packet_id))
        await peer.until_gone()

    def finished(packet_id: int, refusal: str) -> None:
        done.append(packet_id)
        if len(done) == 60:
            all_done.set()

    async with open_hostile_broker([play]) as broker:
        with trio.fail_after(20):
            async with open_session(options(session, broker.url), lambda message: None) as opened:
                assert opened.limits.receive_maximum == 3
                for number in range(60):
                    opened.publish(Message("t", b"%d" % number, 1), number + 1, finished)
                await all_done.wait()
    assert (sorted(done), most) == (list(range(1, 61)), 3)


@SESSIONS
async def test_what_it_does_not_take_is_refused_and_not_sent(session: Any) -> None:
    sent: list[bytes] = []

    async def play(peer: Peer) -> None:
        await peer.connect()
        await peer.send(connack(b"\x24\1\x25\0\x27\0\0\0\x20\x28\0\x2a\0"))
        await peer.send(peer.suback(await peer.read(SUBSCRIBE)))
        for _ in range(2):
            published = (await peer.read(PUBLISH)).published()
            sent.append(published.payload)
            await peer.send(packet(PUBACK, published.packet_id))
        await peer.until_gone()

    refusals: dict[int, str] = {}
    all_done = trio.Event()

    def finished(packet_id: int, refusal: str) -> None:
        refusals[packet_id] = refusal
        if len(refusals) == 6:
            all_done.set()

    async with open_hostile_broker([play]) as broker:
        with trio.fail_after(10):
            async with open_session(options(session, broker.url), lambda message: None) as opened:
                refused = await opened.subscribe({"a": 1, "b/+": 1, "$share/g/c": 1})
                messages = [
                    Message("t", b"x" * 24, 1),
                    Message("t", b"x" * 25, 1),
                    Message("t", b"", 1, metadata=Metadata(user_properties=(("name", "x" * 20),))),
                    Message("t", b"", 2),
                    Message("t", b"", 1, retained=True),
                    Message("t", b"end", 1),
                ]
                for packet_id, message in enumerate(messages, 1):
                    opened.publish(message, packet_id, finished)
                await all_done.wait()
    assert refused == {
        "b/+": "Wildcard subscriptions not supported",
        "$share/g/c": "Shared subscriptions not supported",
    }
    too_large = "Packet too large: the broker takes at most 32 bytes"
    assert refusals == {
        1: "",
        2: too_large,
        3: too_large,
        4: "QoS not supported: the broker takes at most QoS 1",
        5: "Retain not supported",
        6: "",
    }
    assert sent == [b"\0" + b"x" * 24, b"\0end"]


@SESSIONS
async def test_its_keepalive_is_kept_instead_of_ours(session: Any) -> None:
    pinged = trio.Event()

    async def play(peer: Peer) -> None:
        await peer.connect()
        await peer.send(connack(b"\x13\0\1"))
        for _ in range(2):  # the native session begins with one
            await peer.read(PINGREQ)
            await peer.send(b"\xd0\0")
        pinged.set()
        await peer.until_gone()

    async with open_hostile_broker([play]) as broker:
        with trio.fail_after(10):
            async with open_session(options(session, broker.url), lambda message: None):
                await pinged.wait()


@SESSIONS
async def test_a_session_that_it_keeps_for_less_than_asked_is_told(
    session: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(peer: Peer) -> None:
        await peer.connect()
        await peer.send(connack(b"\x11\0\0\0\5"))
        await peer.until_gone()

    async with open_hostile_broker([play]) as broker:
        for persistent in (False, True):
            asked = MqttOptions(broker=broker.url, session=session, protocol="5", client_id="c", persistent=persistent)
            async with open_session(asked, lambda message: None) as opened:
                assert opened.limits.session_expiry == 5
    assert [message for message in caplog.messages if "session" in message] == [
        "the broker keeps the session for 5 s without a connection, not for 3600 s"
    ]


@pytest.mark.parametrize(
    ("maximum", "largest"), [(10, 8), (129, 127), (130, 127), (131, 128), (16_387, 16_383), (16_388, 16_384)]
)
def test_the_length_itself_counts_in_the_size_of_a_packet(maximum: int, largest: int) -> None:
    limits = BrokerLimits(maximum_packet_size=maximum)
    assert limits.largest_length == largest
    assert limits.refusal(largest, 0, False) == ""
    assert "Packet too large" in limits.refusal(largest + 1, 0, False)
