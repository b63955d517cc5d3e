"""What a hostile broker makes the sessions keep has a bound, and reading stops before anything else is given up."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair

from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions import native, open_session, paho_driver
from taktora_trio.connectors.mqtt.sessions.native import NativeSession
from taktora_trio.connectors.mqtt.sessions.session import Session
from taktora_trio.connectors.mqtt.wire import packets
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.connectors.mqtt.wire.state import SessionState
from tests.mqtt.test_engine import CONNACK, VERSIONS, Client, publish
from tests.patience import PATIENCE

MOST = 2 * 65_535
"""Answers that a broker may make a client send before it has read any, at the most."""
IDS = range(1, 10_001)
PUBRELS = b"".join(b"\x62\x02" + number.to_bytes(2, "big") for number in IDS)


@contextlib.asynccontextmanager
async def open_lockstep() -> AsyncIterator[tuple[NativeSession, trio.abc.Stream]]:
    """A session, and its broker, where nothing is in between: what one does not read, the other can't have sent."""
    ours, broker = lockstep_stream_pair()
    session = NativeSession(ours, MqttOptions(), SessionState(), lambda message: None, 100)
    session.entered.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.connect)
        await broker.receive_some()
        await broker.send_all(CONNACK[4])
        for serve in (session.write, session.read, partial(session.watch, 60)):
            nursery.start_soon(serve)
        try:
            yield session, broker
        finally:
            session.close()
            nursery.cancel_scope.cancel()


async def flood(broker: trio.abc.Stream) -> int:
    """Send until the session does not read any more; return how many."""
    sent = 0
    with trio.move_on_after(1):
        while sent < 100 * len(IDS):
            await broker.send_all(PUBRELS)
            sent += len(IDS)
    return sent


async def test_a_broker_that_reads_no_answers_is_not_read_and_then_goes_on(autojump_clock: MockClock) -> None:
    async with open_lockstep() as (_, broker):
        sent = await flood(broker)
        assert sent < MOST + 10 * len(IDS), "it goes on reading"
        answers = b""
        with trio.move_on_after(1):
            while True:
                answers += await broker.receive_some()
        assert answers.count(b"\x70\x02") > sent, "it reads again, and answers all of it"


async def test_a_broker_that_reads_nothing_is_given_up_as_that(autojump_clock: MockClock) -> None:
    async with open_lockstep() as (session, broker):
        await flood(broker)
        assert str(await session.wait_until_lost()) == "the broker does not read the answers to what it sends"


@pytest.mark.parametrize("session", ["native", "aiomqtt"])
async def test_messages_whose_acknowledgements_nobody_reads(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What of it paho reads is paho's to say, so this goes over a socket, which has little room here."""
    monkeypatch.setattr(native, "_MOST_ANSWERS", 5_000)
    monkeypatch.setattr(paho_driver, "_MOST_UNWRITTEN", 5_000)
    batch = b"".join(publish(4, b"t", b"x", 1, number) for number in range(1, 1001))
    sent, most = 0, 100_000
    answered, came = trio.Event(), 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal sent, came
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
        await stream.receive_some(1000)
        await stream.send_all(CONNACK[4])
        rest = memoryview(batch)
        with trio.move_on_after(2) as patience:
            while sent < most:
                await stream.send_all(rest)
                sent += 1000
                patience.deadline = trio.current_time() + 0.5
        while came < 4 * sent:
            came += len(await stream.receive_some(65_536))
        answered.set()
        await trio.sleep_forever()

    opened: list[Session] = []
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        listeners[0].socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        options = MqttOptions(session=session, broker=f"mqtt://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
        with trio.fail_after(2 * PATIENCE):  # tens of thousands of messages
            async with open_session(options, lambda message: opened[0].acknowledge(message)) as running:
                opened.append(running)
                await answered.wait()
        nursery.cancel_scope.cancel()
    assert sent < most, "it goes on reading"


@pytest.mark.parametrize("session", ["aiomqtt"])
async def test_paho_reads_no_more_while_nobody_reads_its_answers(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And then goes on, and answers all of it. The socket has little room for answers, and much for messages."""
    monkeypatch.setattr(paho_driver, "_MOST_UNWRITTEN", 1_000)
    little = [(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)]
    monkeypatch.setattr("taktora_trio.connectors.mqtt.sessions.aiomqtt._SOCKET_OPTIONS", little)
    most, arrived, answers = 4_000, list[Message](), 0
    answered = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal answers
        await stream.receive_some(1000)
        await stream.send_all(CONNACK[4])
        await stream.send_all(b"".join(publish(4, b"t", b"x", 1, number) for number in range(1, most + 1)))
        before = -1
        while before < len(arrived):
            before = len(arrived)
            await trio.sleep(0.5)
        assert 500 <= before < most, "it goes on reading"
        while answers < 4 * most:
            answers += len(await stream.receive_some(65_536))
        answered.set()
        await trio.sleep_forever()

    def on_message(message: Message) -> None:
        arrived.append(message)
        opened[0].acknowledge(message)

    opened: list[Session] = []
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        listeners[0].socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        options = MqttOptions(session=session, broker=f"mqtt://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
        with trio.fail_after(2 * PATIENCE):  # tens of thousands of messages
            async with open_session(options, on_message) as running:
                opened.append(running)
                await answered.wait()
        nursery.cancel_scope.cancel()
    assert len(arrived) == most


def test_messages_that_are_safe_are_known_again_without_being_kept() -> None:
    state, size = SessionState(), 20_000
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for connection in range(20):
        state.connected(session_present=True)
        first = 1 + connection * 50
        came = [Message("t", b"%d" % number * size, 1, delivery_id=number) for number in range(first, first + 50)]
        assert all(map(state.arrived, came))
        for message in reversed(came):  # the first of them last, so that none can be acknowledged to the broker yet
            if connection % 2 == 0 and message is came[0]:
                state.connected(session_present=True)
            state.acknowledge(message)
        del came, message
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken - before < 3 * 2**20, "what the last connection brought, and no more"
    state.connected(session_present=True)
    assert not state.arrived(Message("t", b"7" * size, 1, delivery_id=7)), "it was safe long ago"
    assert state.due() == [(7, 1)]
    assert state.arrived(Message("t", b"another", 1, delivery_id=8))


@VERSIONS
def test_long_topics_are_not_kept(version: int) -> None:
    client = Client(version).connect()
    tracemalloc.start()
    for number in range(500):
        client.engine.publish(Message(f"{number}/" + "x" * 60_000, b""), 0, lambda *_: None)
        client.engine.take()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 2**20


@pytest.mark.parametrize("payload", [b"x", b"x" * 2**20], ids=["small", "large"])
@pytest.mark.parametrize("qos", [0, 1])
def test_more_properties_than_any_channel_takes_are_not_decoded(qos: int, payload: bytes) -> None:
    """From any client at the broker: no reason to end the session, which would meet the same message again."""
    client = Client(5).connect()
    properties = b"\x26\0\0\0\0" * 30_000
    head = packets.varint(len(properties))
    wire = publish(5, b"big", payload, qos, properties=head + properties) + publish(5, b"small", b"y")
    tracemalloc.start()
    for start in range(0, len(wire), 65_536):
        client.engine.receive(wire[start : start + 65_536])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**20
    assert [(m.topic, m.skipped, m.metadata) for m in client.messages] == [
        ("big", len(head) + len(properties) + len(payload), None),
        ("small", 0, None),
    ]
    assert client.engine.take()[0] == (b"\x40\x02\x00\x01" if qos else b"")
