"""What every session promises, run against each of them: aiomqtt with a real mosquitto, memory with its own broker."""

from __future__ import annotations

import math
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

from taktora_trio.mqtt.options import MqttOptions
from taktora_trio.mqtt.sessions import open_session
from taktora_trio.mqtt.sessions.memory import MemoryBroker
from taktora_trio.mqtt.sessions.session import ConnectFailed, Message, OnMessage, Session, SessionLost
from taktora_trio.mqtt.sessions.state import SessionState
from tests.mosquitto import free_port, open_mosquitto


@attrs.frozen
class Rig:
    """A broker, and how to reach it and to cut it off."""

    options: MqttOptions
    cut: Callable[[], Awaitable[None]]

    def open(
        self, on_message: OnMessage = lambda message: None, **options: Any
    ) -> AbstractAsyncContextManager[Session]:
        return self.open_with(SessionState(), on_message, **options)

    def open_with(
        self, state: SessionState, on_message: OnMessage, max_payload: int = 2**28 - 1, **options: Any
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

    def is_empty(self) -> bool:
        return self._take.statistics().current_buffer_used == 0


def ignore(packet_id: int, refusal: str) -> None: ...


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_messages_arrive_once_and_in_order_with_many_in_flight(rig: Rig, qos: int) -> None:
    inbox, done = Inbox(), list[int]()
    all_done = trio.Event()
    count = 300

    def finished(packet_id: int, refusal: str) -> None:
        assert not refusal
        done.append(packet_id)
        if len(done) == count:
            all_done.set()

    async with rig.open(inbox.put.send_nowait) as subscriber, rig.open() as publisher:
        inbox.acknowledge_to(subscriber)
        await subscriber.subscribe({"test/+": qos})
        for number in range(count):
            publisher.publish(Message("test/a", b"%d" % number, qos), number + 1, finished)
        messages = await inbox.take(count)
        with trio.fail_after(10):
            await all_done.wait()
    assert [int(message.payload) for message in messages] == list(range(count))
    assert {message.topic for message in messages} == {"test/a"}
    assert sorted(done) == list(range(1, count + 1))
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
        publisher.publish(Message("test/kept", b"kept", 1, retain=True), 1, lambda *_: published.set())
        publisher.publish(Message("test/passing", b"passing", 1), 2, ignore)
        with trio.fail_after(10):
            await published.wait()
    async with rig.open(inbox.put.send_nowait) as subscriber:
        await subscriber.subscribe({"test/#": 1})
        [message] = await inbox.take(1)
        assert (message.topic, message.payload, message.retain) == ("test/kept", b"kept", True)


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
        assert str(lost)
        session.publish(Message("test", b"", 1), 1, lambda *_: done.append("published on a dead connection"))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (await session.wait_until_lost()) is lost
    assert done == []


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
