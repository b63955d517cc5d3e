"""What every session promises, run against each of them: aiomqtt with a real mosquitto, memory with its own broker."""

from __future__ import annotations

import math
import sys
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from taktora_trio import BrokerAddress, Metadata
from taktora_trio.connectors.mqtt.options import LastWill, MqttOptions
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.connectors.mqtt.sessions.client_state import ClientState
from taktora_trio.connectors.mqtt.sessions.memory import MemoryBroker
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed, ConnectRefused, Session, SessionLost
from taktora_trio.connectors.mqtt.wire.message import Message, OnMessage
from taktora_trio.connectors.mqtt.wire.reasons import reason_name
from taktora_trio.errors import leaves
from tests.brokers.hostile import Peer, Script, open_hostile_broker
from tests.brokers.packets import CONNACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE, packet
from tests.mosquitto import find_mosquitto, free_port, open_mosquitto


@attrs.frozen
class Rig:
    """A broker, and how to reach it and to cut it off."""

    options: MqttOptions
    cut: Callable[[], Awaitable[None]]

    def open(
        self, on_message: OnMessage = lambda message: None, **options: Any
    ) -> AbstractAsyncContextManager[Session]:
        return self.open_with(ClientState(), on_message, **options)

    def open_with(
        self, state: ClientState, on_message: OnMessage, max_payload: int = 2**28 - 1, **options: Any
    ) -> AbstractAsyncContextManager[Session]:
        return open_session(attrs.evolve(self.options, **options), on_message, state, max_payload)

    @property
    def v5(self) -> bool:
        return self.options.protocol == "5"


SESSIONS = [f"{session} {protocol}" for session in ("native", "aiomqtt", "memory") for protocol in ("3.1.1", "5")]


@pytest.fixture(params=SESSIONS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    session, protocol = request.param.split()
    if session == "memory":
        options = MqttOptions(session="memory", protocol=protocol, broker=f"mqtt://{uuid.uuid4().hex}")
        broker = MemoryBroker.at(options.broker.host, options.broker.port)

        async def drop() -> None:
            broker.drop_all()
            await trio.lowlevel.checkpoint()

        yield Rig(options, drop)
    else:
        async with open_mosquitto(tmp_path) as server:
            yield Rig(MqttOptions(session=session, protocol=protocol, broker=server.url), server.stop)


class Inbox:
    """Collects messages, and waits for a number of them."""

    def __init__(self) -> None:
        self.put, self._take = trio.open_memory_channel[Message](math.inf)
        self._session: Session | None = None

    def acknowledge_to(self, session: Session) -> None:
        """From now on, whatever is taken."""
        self._session = session

    async def take(self, count: int) -> list[Message]:
        taken = []
        with trio.fail_after(10):
            for _ in range(count):
                message = await self._take.receive()
                if self._session is not None and message.qos:
                    self._session.acknowledge(message)
                taken.append(message)
        return taken

    def count(self) -> int:
        return self._take.statistics().current_buffer_used

    def is_empty(self) -> bool:
        return self._take.statistics().current_buffer_used == 0


def ignore(packet_id: int, refusal: str) -> None: ...


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_messages_arrive_once_and_in_order_with_many_in_flight(rig: Rig, qos: int) -> None:
    inbox, done = Inbox(), list[int]()
    all_done = trio.Event()
    count = 300
    first = 1 if qos else 70_000  # of QoS 0 it is no identifier

    def finished(packet_id: int, refusal: str) -> None:
        assert not refusal
        done.append(packet_id)
        if len(done) == count:
            all_done.set()

    async with rig.open(inbox.put.send_nowait) as subscriber, rig.open() as publisher:
        inbox.acknowledge_to(subscriber)
        await subscriber.subscribe({"test/+": qos})
        for number in range(count):
            publisher.publish(Message("test/a", b"%d" % number, qos), first + number, finished)
        messages = await inbox.take(count)
        with trio.fail_after(10):
            await all_done.wait()
    assert [int(message.payload) for message in messages] == list(range(count))
    assert {message.topic for message in messages} == {"test/a"}
    assert sorted(done) == list(range(first, first + count))
    assert inbox.is_empty()


async def test_payloads_are_any_bytes(rig: Rig) -> None:
    inbox = Inbox()
    payloads = [b"", b"\0", bytes(range(256)), b"x" * 100_000]
    async with rig.open(inbox.put.send_nowait) as session:
        await session.subscribe({"test": 1})
        for number, payload in enumerate(payloads):
            session.publish(Message("test", payload, 1), number + 1, ignore)
        assert [message.payload for message in await inbox.take(len(payloads))] == payloads


async def test_retained_messages_come_with_the_subscription(rig: Rig) -> None:
    inbox, published = Inbox(), trio.Event()
    async with rig.open() as publisher:
        publisher.publish(Message("test/kept", b"kept", 1, retained=True), 1, lambda *_: published.set())
        publisher.publish(Message("test/passing", b"passing", 1), 2, ignore)
        with trio.fail_after(10):
            await published.wait()
    async with rig.open(inbox.put.send_nowait) as subscriber:
        await subscriber.subscribe({"test/#": 1})
        [message] = await inbox.take(1)
        assert (message.topic, message.payload, message.retained) == ("test/kept", b"kept", True)


async def test_a_retained_message_is_news_to_who_has_subscribed_and_an_empty_one_ends_it(rig: Rig) -> None:
    inbox, later = Inbox(), Inbox()
    async with rig.open(inbox.put.send_nowait) as session:
        await session.subscribe({"test/+": 0})
        session.publish(Message("test/kept", b"kept", 1, retained=True), 1, ignore)
        session.publish(Message("test/kept", b"", 1, retained=True), 2, ignore)
        messages = await inbox.take(2)
        assert [(message.payload, message.retained) for message in messages] == [(b"kept", False), (b"", False)]
        async with rig.open(later.put.send_nowait) as subscriber:
            await subscriber.subscribe({"test/+": 0})
            await settle(rig, subscriber)
        assert later.is_empty()


async def test_with_mqtt_5_retained_messages_come_once_in_a_session(rig: Rig) -> None:
    inbox = Inbox()
    async with rig.open(inbox.put.send_nowait, **PERSISTENT) as session:
        inbox.acknowledge_to(session)
        session.publish(Message("test/kept", b"kept", 1, retained=True), 1, ignore)
        await settle(rig, session)
        for times in (1, 0 if rig.v5 else 1):
            await session.subscribe({"test/#": 1})
            await settle(rig, session)
            assert [message.retained for message in await inbox.take(times)] == [True] * times
    assert inbox.is_empty()


async def test_what_is_unsubscribed_comes_no_more(rig: Rig) -> None:
    inbox = Inbox()
    filters = {f"test/{number}": 1 for number in range(250)}
    async with rig.open(inbox.put.send_nowait) as session:
        await session.subscribe(filters)
        assert await session.unsubscribe([*list(filters)[:-1], "test/unknown/+"]) == {}
        for number, topic in enumerate(filters):
            session.publish(Message(topic, b"", 1), number + 1, ignore)
        assert [message.topic for message in await inbox.take(1)] == ["test/249"]
        assert inbox.is_empty()


async def test_what_was_not_subscribed_does_not_come(rig: Rig) -> None:
    inbox = Inbox()
    async with rig.open(inbox.put.send_nowait) as session:
        await session.subscribe({"test/+/b": 1, "test/c": 0})
        for number, topic in enumerate(("test/a", "test/x/b", "test/x/y/b", "test/c")):
            session.publish(Message(topic, b"", 1), number + 1, ignore)
        assert [message.topic for message in await inbox.take(2)] == ["test/x/b", "test/c"]
        assert inbox.is_empty()


async def test_a_lost_connection_is_told_and_nothing_is_done_on_it(rig: Rig) -> None:
    done: list[str] = []
    async with rig.open() as session:
        with trio.move_on_after(0.05) as waiting:
            await session.wait_until_lost()
        assert waiting.cancelled_caught, "lost too early"
        await rig.cut()
        with trio.fail_after(10):
            lost = await session.wait_until_lost()
        assert isinstance(lost, SessionLost)
        assert str(lost), lost
        session.publish(Message("test", b"", 1), 1, lambda *_: done.append("published on a dead connection"))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (await session.wait_until_lost()) is lost
    assert done == []


async def test_nothing_is_asked_of_a_connection_that_is_lost(rig: Rig) -> None:
    async with rig.open() as session:
        await rig.cut()
        with trio.fail_after(10):
            await session.wait_until_lost()
            with pytest.raises(SessionLost):
                await session.subscribe({"test": 1})
            with pytest.raises(SessionLost):
                await session.unsubscribe(["test"])


async def test_leaving_with_messages_unacknowledged_does_not_hang(rig: Rig) -> None:
    with trio.fail_after(5):
        async with rig.open() as session:
            for number in range(1000):
                session.publish(Message("test", b"x" * 1000, 1), number + 1, ignore)


async def test_cancelled_while_open(rig: Rig) -> None:
    with trio.fail_after(5), trio.CancelScope() as scope:
        async with rig.open():
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_cancelled_at_any_moment_it_ends(rig: Rig) -> None:
    """While it connects, when it has just connected, and later."""

    async def cancel_after(turns: int) -> None:
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    for turns in range(150):
        with trio.fail_after(5), trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_after, turns)
                async with rig.open():
                    await trio.sleep_forever()
        assert scope.cancelled_caught


@pytest.mark.parametrize("session", ["native", "aiomqtt"])
async def test_nobody_there(session: Any) -> None:
    options = MqttOptions(session=session, broker=f"mqtt://127.0.0.1:{free_port()}")
    with pytest.RaisesGroup(
        pytest.RaisesExc(ConnectFailed, match="refused"), allow_unwrapped=True, flatten_subgroups=True
    ):
        async with open_session(options, lambda message: None):
            pass


@pytest.mark.parametrize("session", ["native", "aiomqtt"])
async def test_a_server_that_never_answers(session: Any) -> None:
    async def swallow(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, swallow, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        options = MqttOptions(session=session, broker=f"mqtt://127.0.0.1:{port}", connect_timeout=0.3)
        with trio.fail_after(5):
            with pytest.RaisesGroup(ConnectFailed, allow_unwrapped=True, flatten_subgroups=True):
                async with open_session(options, lambda message: None):
                    pass
        nursery.cancel_scope.cancel()


# Acknowledgements


PERSISTENT: dict[str, Any] = {"client_id": "the-client", "persistent": True}


def is_refused(rig: Rig, qos: int) -> bool:
    """Whether the aiomqtt session says honestly that it can't."""
    return rig.options.session == "aiomqtt" and qos == 2


async def publish_numbers(rig: Rig, count: int, qos: int, start: int = 0) -> None:
    done = trio.Event()
    left = count

    def finished(packet_id: int, refusal: str) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    async with rig.open() as publisher:
        for number in range(start, start + count):
            publisher.publish(Message("test/a", b"%d" % number, qos), number + 1, finished)
        with trio.fail_after(10):
            await done.wait()


def numbers(messages: list[Message]) -> list[int]:
    return [int(message.payload) for message in messages]


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_persistent_session_keeps_what_was_not_acknowledged(rig: Rig, qos: int) -> None:
    if is_refused(rig, qos):
        async with rig.open(**PERSISTENT) as session:
            refused = await session.subscribe({"test/+": qos, "test/+/x": 1})
        assert list(refused) == ["test/+"]
        assert "use session='native'" in refused["test/+"]
        return
    first, second = Inbox(), Inbox()
    async with rig.open(first.put.send_nowait, **PERSISTENT) as session:
        assert not session.session_present
        await session.subscribe({"test/+": qos})
        await publish_numbers(rig, 4, qos)
        messages = await first.take(4)
        session.acknowledge(messages[0])
        session.acknowledge(messages[2])  # waits for the one before it: the order is kept (MQTT-4.6.0-2)
        if qos == 2:
            await settle(rig, session)
    await publish_numbers(rig, 2, qos, start=4)
    async with rig.open(second.put.send_nowait, **PERSISTENT) as session:
        second.acknowledge_to(session)
        assert session.session_present
        assert numbers(await second.take(5)) == [1, 2, 3, 4, 5]
        await settle(rig, session)
    third = Inbox()
    async with rig.open(third.put.send_nowait, **PERSISTENT) as session:
        await settle(rig, session)
    assert third.is_empty()


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_is_still_waiting_here_does_not_come_twice(rig: Rig, qos: int) -> None:
    """With the same state, a message that the broker sends again is not delivered again."""
    if is_refused(rig, qos):
        return
    inbox, state = Inbox(), ClientState()
    async with rig.open_with(state, inbox.put.send_nowait, **PERSISTENT) as session:
        await session.subscribe({"test/+": qos})
        await publish_numbers(rig, 3, qos)
        messages = await inbox.take(3)
    session.acknowledge(messages[1])  # between two connections: kept for the next one
    async with rig.open_with(state, inbox.put.send_nowait, **PERSISTENT) as session:
        await publish_numbers(rig, 1, qos, start=3)
        [newer] = await inbox.take(1)
        assert numbers([newer]) == [3]
        for message in (messages[0], messages[2], newer):
            session.acknowledge(message)
        await settle(rig, session)
    async with rig.open_with(ClientState(), inbox.put.send_nowait, **PERSISTENT) as session:
        await settle(rig, session)
    assert inbox.is_empty()


async def settle(rig: Rig, session: Session) -> None:
    """All that was sent before has reached the broker, and what it sent before has come."""
    there = trio.Event()
    session.publish(Message("elsewhere", b"", 1), 60_000, lambda *_: there.set())
    with trio.fail_after(10):
        await there.wait()


async def test_without_persistence_nothing_is_kept(rig: Rig) -> None:
    inbox = Inbox()
    async with rig.open(client_id="the-client") as session:
        await session.subscribe({"test/+": 1})
    await publish_numbers(rig, 2, 1)
    async with rig.open(inbox.put.send_nowait, client_id="the-client") as session:
        assert not session.session_present
        await settle(rig, session)
    assert inbox.is_empty()


async def test_while_it_holds_nothing_comes_and_then_all_does(rig: Rig) -> None:
    inbox = Inbox()
    async with rig.open(inbox.put.send_nowait) as session:
        inbox.acknowledge_to(session)
        await session.subscribe({"test/+": 1})
        session.pause_reading()
        await publish_numbers(rig, 40, 1)
        before = inbox.count()
        assert before <= 20  # what had been read already
        session.resume_reading()
        assert numbers(await inbox.take(40)) == list(range(40))


# Properties, wills, refusals


async def test_properties_travel_with_mqtt_5(rig: Rig) -> None:
    inbox = Inbox()
    metadata = Metadata("text/plain", "answers/here", 600, (("a", "1"), ("a", "2"), ("", "")))
    async with rig.open(inbox.put.send_nowait) as session:
        await session.subscribe({"test/+": 1})
        session.publish(Message("test/a", b"with", 1, metadata=metadata, correlation_id=b"of a zero\0"), 1, ignore)
        session.publish(Message("test/a", b"without", 1), 2, ignore)
        session.publish(Message("test/a", b"data alone", 1, correlation_id=bytes(range(100))), 3, ignore)
        messages = await inbox.take(3)
    assert [message.payload for message in messages] == [b"with", b"without", b"data alone"]
    assert [message.metadata for message in messages] == [metadata if rig.v5 else None, None, None]
    data = [b"of a zero\0", b"", bytes(range(100))]
    assert [message.correlation_id for message in messages] == (data if rig.v5 else [b"", b"", b""])


async def test_the_will_is_published_when_the_connection_breaks_and_not_after_a_farewell(rig: Rig) -> None:
    inbox = Inbox()
    will = LastWill("test/will", b"Down")
    async with rig.open(inbox.put.send_nowait) as watcher:
        await watcher.subscribe({"test/+": 1})
        async with rig.open(client_id="one", will=will):
            pass
        await settle(rig, watcher)
        assert inbox.is_empty()
        # The broker closes the older connection.
        async with rig.open(client_id="two", will=will), rig.open(client_id="two"):
            [message] = await inbox.take(1)
        assert (message.topic, message.payload) == ("test/will", b"Down")


async def test_taken_over_by_another_with_the_same_id(rig: Rig) -> None:
    async with rig.open(client_id="one") as older, rig.open(client_id="one"):
        with trio.fail_after(10):
            lost = await older.wait_until_lost()
    assert str(lost)
    # mosquitto closes the connection, and says why from 2.1 on; see test_engine.py for one that does.
    if not rig.v5:
        assert lost.code == 0
    elif rig.options.session == "memory":
        assert lost.code == 0x8E
    else:
        assert lost.code in (0, 0x8E)
    assert not lost.silent


@pytest.mark.parametrize("session", ["native", "aiomqtt"])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (0x87, ConnectRefused),
        (0x85, ConnectRefused),
        (0x97, ConnectFailed),
        (0x8A, ConnectFailed),
        (0x9C, ConnectFailed),
    ],
)
async def test_only_what_lasts_is_a_refusal(session: Any, code: int, kind: type[Exception]) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.connect()
        other = b"other.example:1883"
        properties = b"\x1c" + len(other).to_bytes(2) + other if code == 0x9C else b""
        await peer.send(packet(CONNACK, bytes([0, code, len(properties)]) + properties))
        await peer.until_gone()

    async with open_hostile_broker([refuse]) as broker:
        options = MqttOptions(broker=broker.url, session=session, protocol="5")
        with pytest.RaisesGroup(kind, allow_unwrapped=True, flatten_subgroups=True) as caught:
            async with open_session(options, lambda message: None):
                pass
    [failure] = leaves(caught.value)
    assert reason_name(code) in str(failure)
    if isinstance(failure, ConnectRefused):
        assert failure.code == code
    if code == 0x9C and session == "native":
        assert "it names 'other.example:1883', which is not followed" in str(failure)


@pytest.fixture
async def strict(rig: Rig, tmp_path: Path) -> AsyncIterator[Rig]:
    """A broker that lets `bob` publish and subscribe to `open/#` alone."""
    if rig.options.session == "memory":
        broker = MemoryBroker.at(rig.options.broker.host, rig.options.broker.port)
        broker.refused_topics = {"secret": "Not authorized", "secret/#": "Not authorized"}
        yield rig
        return
    folder = tmp_path / "strict"
    folder.mkdir()
    (folder / "acl").write_text("user bob\ntopic readwrite open/#\n")
    await trio.run_process([find_mosquitto("mosquitto_passwd"), "-c", "-b", str(folder / "passwords"), "bob", "s3cret"])
    # Without a limit mosquitto 2.0.11 ends the connection at the first message after one that it refused.
    limits = ["max_inflight_messages 20", "max_queued_messages 1000"]
    lines = [f"password_file {folder / 'passwords'}", f"acl_file {folder / 'acl'}", *limits]
    async with open_mosquitto(folder, lines, anonymous=False) as server:
        broker_address = BrokerAddress("127.0.0.1", server.port, username="bob", password="s3cret")
        yield Rig(attrs.evolve(rig.options, broker=broker_address), server.stop)


async def test_a_refused_message_is_told_by_name_with_mqtt_5(strict: Rig) -> None:
    answers: list[tuple[int, str]] = []
    async with strict.open() as session:
        session.publish(Message("secret", b"x", 1), 7, lambda *answer: answers.append(answer))
        session.publish(Message("open/a", b"x", 1), 8, lambda *answer: answers.append(answer))
        await settle_at(session, "open/a")
    assert answers == [(7, "Not authorized" if strict.v5 else ""), (8, "")]


async def settle_at(session: Session, topic: str) -> None:
    there = trio.Event()
    session.publish(Message(topic, b"", 1), 60_000, lambda *_: there.set())
    with trio.fail_after(10):
        await there.wait()


async def test_a_refused_subscription_is_told_by_filter_and_name(strict: Rig) -> None:
    if strict.options.session != "memory":
        return  # mosquitto grants whatever is asked for, and delivers what is allowed; see test_engine.py
    async with strict.open() as session:
        assert await session.subscribe({"open/#": 1, "secret/#": 1}) == {"secret/#": "Not authorized"}


@pytest.mark.parametrize("password", ["wr0ng", None])
async def test_a_wrong_password_is_refused_and_never_shown(
    strict: Rig, password: str | None, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    if strict.options.session == "memory":
        return
    caplog.set_level(0)
    broker = attrs.evolve(strict.options.broker, password=password)
    with pytest.RaisesGroup(ConnectRefused, allow_unwrapped=True, flatten_subgroups=True) as caught:
        async with strict.open(broker=broker):
            pass
    said = "".join(traceback.format_exception(caught.value)) + caplog.text + "".join(capfd.readouterr())
    assert "Not authorized" in said or "Bad user name or password" in said
    assert "wr0ng" not in said
    assert "s3cret" not in said


async def test_what_comes_together_with_the_connack_can_be_acknowledged() -> None:
    answers: list[bytes] = []
    acknowledged = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"\x20\x02\x01\x00" + b"\x32\x06\x00\x01t\x00\x07x")
        while data := await stream.receive_some(1000):
            answers.append(bytes(data))
            if b"\x40\x02\x00\x07" in b"".join(answers):
                acknowledged.set()

    attached: list[Session] = []
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        options = MqttOptions(broker=f"mqtt://127.0.0.1:{listener.socket.getsockname()[1]}")
        async with open_session(options, lambda message: attached[0].acknowledge(message)) as session:
            attached.append(session)
            with trio.fail_after(10):
                await acknowledged.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("session", "qos", "answer", "lost"), [
    ("native", 2, b"\x40\x02", None),
    ("aiomqtt", 2, b"\x40\x02", None),
    ("native", 1, b"\x70\x02", "the broker broke the rules of MQTT: a PUBCOMP for 7, of which none was to come"),
    ("aiomqtt", 1, b"\x70\x02", None),
])  # fmt: skip
async def test_whatever_acknowledgement_comes_no_message_waits_for_another(
    session: Any, qos: int, answer: bytes, lost: str | None
) -> None:
    """As from RabbitMQ before 4. What fits nothing ends the connection, or paho takes it for an answer."""
    done: list[tuple[int, str]] = []

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"\x20\x02\x00\x00")
        while (data := await stream.receive_some(1000))[:1] not in (b"\x32", b"\x34"):
            pass
        await stream.send_all(answer + data[5:7])
        await trio.sleep_forever()

    def finished(*answered: Any) -> None:
        done.append(answered)
        ended.set()

    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        options = MqttOptions(session=session, broker=f"mqtt://127.0.0.1:{listener.socket.getsockname()[1]}")
        with trio.fail_after(10):
            async with open_session(options, lambda message: None) as opened:
                opened.publish(Message("t", b"x", qos), 7, finished)
                if lost is None:
                    await ended.wait()
                    assert done == [(7, "")]
                else:
                    assert str(await opened.wait_until_lost()) == lost
                    assert done == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("session", ["native", "aiomqtt"])
@pytest.mark.parametrize("busy", [True, False], ids=["busy", "silent"])
async def test_a_backlog_before_the_suback_takes_its_time_but_silence_does_not(session: Any, busy: bool) -> None:
    """A broker may send what it has kept for the client before it answers; that can take longer than any timeout."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"\x20\x02\x00\x00")
        while (data := await stream.receive_some(1000))[:1] != b"\x82":
            pass
        packet_id = data[2:4] if len(data) < 0x80 else b""
        for _ in range(10 if busy else 0):
            await stream.send_all(b"\x30\x04\x00\x01tx")
            await trio.sleep(0.1)
        if busy:
            await stream.send_all(b"\x90\x03" + packet_id + b"\x01")
        await trio.sleep_forever()

    arrived: list[Message] = []
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        options = MqttOptions(session=session, broker=f"mqtt://127.0.0.1:{port}", connect_timeout=0.5)
        with trio.fail_after(10):
            async with open_session(options, arrived.append) as opened:
                if busy:
                    await opened.subscribe({"t": 1})
                    assert len(arrived) == 10
                else:
                    with pytest.raises(SessionLost, match="does not answer a subscription"):
                        await opened.subscribe({"t": 1})
        nursery.cancel_scope.cancel()


async def play(session: Any, script: Script, use: Callable[[Session], Awaitable[None]], **options: Any) -> None:
    """Use a session with a broker that plays a script."""
    async with open_hostile_broker([script]) as broker:
        asked = MqttOptions(broker=broker.url, session=session, protocol="5", **options)
        with trio.fail_after(10):
            async with open_session(asked, lambda message: None) as opened:
                await use(opened)


@pytest.mark.parametrize("session", ["native", "aiomqtt"])
async def test_what_stays_subscribed_is_told_by_filter_and_name(session: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.connect()
        await peer.send(peer.connack())
        asked = await peer.read(UNSUBSCRIBE)
        await peer.send(packet(UNSUBACK, asked.body[:2] + b"\0" + b"\x00\x87\x11"))
        await peer.until_gone()

    async def use(opened: Session) -> None:
        assert await opened.unsubscribe(["a", "b/#", "c"]) == {"b/#": "Not authorized"}

    await play(session, script, use)


@pytest.mark.parametrize("session", ["native", "aiomqtt"])
async def test_who_waits_for_an_answer_hears_at_once_that_the_connection_is_lost(session: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.connect()
        await peer.send(peer.connack())
        await peer.read(SUBSCRIBE)

    async def use(opened: Session) -> None:
        began = trio.current_time()
        with pytest.raises(SessionLost):
            await opened.subscribe({"a": 1})
        assert trio.current_time() - began < 4, "it has waited for an answer of a broker that is gone"

    await play(session, script, use, connect_timeout=5)


@pytest.mark.parametrize("session", ["aiomqtt"])
async def test_it_goes_on_reading_after_a_second_connack(session: Any) -> None:
    """Which paho lets pass, though no broker may send one."""

    async def script(peer: Peer) -> None:
        await peer.connect()
        await peer.send(peer.connack())
        asked = await peer.read(SUBSCRIBE)
        await peer.send(peer.connack())
        await peer.send(peer.suback(asked))
        await peer.until_gone()

    async def use(opened: Session) -> None:
        assert await opened.subscribe({"a": 1}) == {}

    await play(session, script, use)


@pytest.mark.parametrize("session", ["native", "aiomqtt"])
async def test_a_broker_without_a_sign_of_life_is_lost_as_silent(session: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.connect()
        await peer.send(peer.connack())
        await peer.until_gone()

    async def use(opened: Session) -> None:
        lost = await opened.wait_until_lost()
        assert lost.silent
        assert "silent" in str(lost)

    await play(session, script, use, keepalive=1)


async def test_one_of_a_group_gets_a_message_of_their_shared_subscription(rig: Rig) -> None:
    """`$share/GROUP/FILTER` (MQTT 5, section 4.8.2), which mosquitto knows with 3.1.1 too."""
    one, other, outsider = Inbox(), Inbox(), Inbox()
    async with (
        rig.open(one.put.send_nowait) as first,
        rig.open(other.put.send_nowait) as second,
        rig.open(outsider.put.send_nowait) as third,
    ):
        await third.subscribe({"test/+": 0})
        await publish_numbers(rig, 1, 0)
        assert numbers(await outsider.take(1)) == [0]
        for session in (first, second):
            await session.subscribe({"$share/group/test/+": 0})
        await publish_numbers(rig, 20, 0)
        assert sorted(numbers(await outsider.take(20))) == list(range(20))
        for session in (first, second):
            await settle(rig, session)
        mine, theirs = one.count(), other.count()
        assert mine + theirs == 20
        assert mine > 0
        assert theirs > 0
        assert sorted(numbers([*await one.take(mine), *await other.take(theirs)])) == list(range(20))


async def test_the_native_session_brings_no_other_protocol_stack_with_it() -> None:
    program = """
import sys
import taktora_trio.connectors.mqtt.client, taktora_trio.connectors.mqtt.sessions.native
print(sorted({"aiomqtt", "paho", "asyncio", "trio_asyncio", "wsproto"} & set(sys.modules)))
"""
    done = await trio.run_process([sys.executable, "-c", program], capture_stdout=True)
    assert done.stdout == b"[]\n"
