"""Several brokers, in virtual time: which is used, what each of them is told, and the way back to the first."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, cast

import attrs
import pytest
import trio
from trio.testing import MockClock

from taktora_trio import Header, MqttConnector, MqttOptions, MqttRouting, Outbound, RawCodec
from taktora_trio.connectors.mqtt import client
from taktora_trio.connectors.mqtt.exactly_once import MEMORY, ExactlyOnce
from taktora_trio.connectors.mqtt.sessions.client_state import ClientState
from taktora_trio.connectors.mqtt.sessions.memory import MemoryBroker
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed, Session, SessionLost
from taktora_trio.connectors.mqtt.wire.message import Message, OnMessage
from tests.connectors.rig import BACKOFF, RunningBridge, serve_connector
from tests.mqtt.rig import FakeSession, Sink, Source, inbound, numbered, open_bridge, outbound

URLS = ["mqtt://first.example", "mqtt://second.example"]


@pytest.fixture
def brokers(request: pytest.FixtureRequest) -> tuple[list[MemoryBroker], dict[str, Any]]:
    """Two brokers in memory that nobody else uses, and the options to reach them in order."""
    name = f"{abs(hash(request.node.name)):x}.example"
    hosts = [f"first-{name}", f"second-{name}"]
    options = {"session": "memory", "broker": [f"mqtt://{host}" for host in hosts], "client_id": "me"}
    return [MemoryBroker.at(host, 1883) for host in hosts], options


Brokers = tuple[list[MemoryBroker], dict[str, Any]]


async def until_connected(broker: MemoryBroker) -> None:
    while not broker.sessions:  # noqa: ASYNC110 - it tells nobody
        await trio.sleep(0.05)


def heard(broker: MemoryBroker, topic: str = "topic/out") -> list[bytes]:
    """What the broker has got, of a topic that is retained: a fake would do, but this one has rules."""
    kept = broker.retained.get(topic)
    return [] if kept is None else [kept.message.payload]


async def test_the_next_is_tried_at_once_and_the_way_back_drops_nothing(
    brokers: Brokers, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO)
    (first, second), options = brokers
    first.unreachable = True
    channel = Outbound("out", bytes, MqttRouting("topic/out", qos=1, retain=True))
    async with open_bridge(channel, **options) as running:
        await until_connected(second)
        assert trio.current_time() < 0.3
        running.sources["out"].put(b"1")
        with trio.fail_after(600):  # its delays grow, and are spread by chance
            while first.connects <= 3:  # noqa: ASYNC110 - it looks for it, and goes on with the second; nothing tells
                await trio.sleep(1)
        assert (heard(first), heard(second)) == ([], [b"1"])
        assert second.connects == 1
        first.unreachable = False
        await until_connected(first)
        await trio.sleep(1)
        assert (len(first.sessions), len(second.sessions)) == (1, 0)
        running.sources["out"].put(b"2")
        await trio.sleep(1)
        assert (heard(first), heard(second)) == ([b"2"], [b"1"])
        assert running.sources["out"].acknowledged[-1] == 2
        assert heard(second, "taktora/me/health") == [b"Down"]
        assert heard(first, "taktora/me/health") == [b"Up"]
    lines = [record.getMessage() for record in caplog.records]
    assert any("is back, and has accepted the login" in line for line in lines)
    assert any("which has no session of this client" in line for line in lines)


async def test_a_first_that_refuses_costs_the_second_nothing(
    brokers: Brokers, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    (first, second), options = brokers
    first.refuses_login = True
    async with open_bridge(outbound(), return_to_first=10, **options) as running:
        await until_connected(second)
        await trio.sleep(900)
        assert second.connects == 1
        assert [state for state, _ in running.health] == [f"Up (at {options['broker'][1]}:1883)"]
        assert 5 < first.connects < 20  # ever more seldom


async def test_if_both_are_gone_there_is_backoff_for_each(brokers: Brokers, autojump_clock: MockClock) -> None:
    (first, second), options = brokers
    first.unreachable = second.unreachable = True
    async with open_bridge(outbound(), **options):
        await trio.sleep(100)
        assert 20 < first.connects < 40  # 1, 2, 4, 4, ... seconds: see BACKOFF
        assert 20 < second.connects < 40


async def test_what_came_from_one_broker_is_acknowledged_there_when_it_is_used_again(
    brokers: Brokers, autojump_clock: MockClock
) -> None:
    (first, second), options = brokers
    sink = Sink(window=1)
    channels = [inbound("in", "in", 1)]
    async with open_bridge(*channels, sinks={"in": sink}, return_to_first=10, persistent=True, **options) as running:
        await until_connected(first)
        await trio.sleep(1)
        for payload in numbered(3):
            first.deliver(Message("in", payload, 1))
        await trio.sleep(1)
        first.unreachable = True
        first.sessions[0].lose("gone")
        await until_connected(second)
        taken = []
        for _ in range(3):  # while it is with the second
            await trio.sleep(0.1)
            taken += sink.take()
        assert taken == numbered(3)
        assert len(first.kept["me"].unacknowledged) > 1
        first.unreachable = False
        await until_connected(first)
        await trio.sleep(1)
        assert first.kept["me"].unacknowledged == {}
        assert sink.take() == []  # none again
    assert running.ended.is_set()


async def test_readers_are_told_when_the_next_gateway_comes_to_another_broker(
    brokers: Brokers, autojump_clock: MockClock
) -> None:
    """What has a delivery id and content of before is a repeat at the same broker, and at another one a message."""
    (first, second), options = brokers
    memories: dict[str, memoryview] = {}

    async def tells_at(broker: MemoryBroker) -> bool:
        first.unreachable = broker is second
        sink = Sink()
        async with open_bridge(
            inbound("in", "in", 1),
            sinks={"in": sink},
            memory=lambda name, size: memories.setdefault(name, memoryview(bytearray(size))),
            persistent=True,
            **options,
        ):
            await until_connected(broker)
            await trio.sleep(1)
        return bool(sink.forgotten)

    assert [await tells_at(broker) for broker in (first, first, second, second)] == [True, False, True, False]
    assert [await tells_at(broker) for broker in (first, first, second)] == [True, False, True]  # both have a session


@attrs.define
class Sessions:
    """Takes the place of `open_session`: each broker gives its sessions one after the other."""

    answers: dict[str, list[Session | Exception]]
    states: dict[str, ClientState] = attrs.field(factory=dict)

    @contextlib.asynccontextmanager
    async def open_session(
        self, options: MqttOptions, on_message: OnMessage, state: ClientState, max_payload: int
    ) -> AsyncIterator[Session]:
        await trio.lowlevel.checkpoint()
        host = options.broker.host.partition(".")[0]
        self.states[host] = state
        answer = self.answers[host].pop(0) if self.answers[host] else ConnectFailed("gone")
        if isinstance(answer, Exception):
            raise answer
        yield answer


@contextlib.asynccontextmanager
async def open_two(
    monkeypatch: pytest.MonkeyPatch, first: list[Session | Exception], second: list[Session | Exception], **more: Any
) -> AsyncIterator[tuple[RunningBridge, Sessions]]:
    sessions = Sessions({"first": first, "second": second})
    monkeypatch.setattr(client, "open_session", sessions.open_session)
    channel = Outbound("out", bytes, MqttRouting("topic/out", qos=2))
    options = MqttOptions(**{"broker": URLS, "reconnect": BACKOFF, "max_inflight": 4, "presence": None, **more})
    async with serve_connector(MqttConnector([channel], codec=RawCodec(), options=options)) as running:
        yield running, sessions


async def test_at_qos_2_no_broker_takes_a_new_message_for_one_that_it_still_holds(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    before = FakeSession(acknowledges=False)
    meanwhile, after = FakeSession(), FakeSession(session_present=True)
    after.completes = False
    async with open_two(monkeypatch, [before, after], [meanwhile], return_to_first=None) as (running, _):
        running.sources["out"].put(b"a", b"b")
        await trio.sleep(1)
        before.lose()
        await trio.sleep(1)
        # The second knows nothing of them, so they are new there.
        assert meanwhile.payloads == [b"a", b"b"]
        assert not any(message.redelivered for message in meanwhile.published)
        running.sources["out"].put(*numbered(3))
        await trio.sleep(1)
        meanwhile.lose()
        await trio.sleep(1)
        running.sources["out"].put(b"x")
        await trio.sleep(1)
        # The first may hold "a" and "b" under identifiers that are used again.
        assert after.payloads == []
        assert sorted(after.released) == [1, 2, 3, 4]
        after.finish_release()
        assert after.payloads == [b"x"]


async def test_what_was_not_acknowledged_moves_and_keeps_its_order(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    before, after = FakeSession(acknowledges=False), FakeSession(acknowledges=False, session_present=True)
    async with open_two(monkeypatch, [before], [after], return_to_first=None) as (running, _):
        running.sources["out"].put(*numbered(6))
        await trio.sleep(1)
        before.finish(0)
        await trio.sleep(1)
        before.lose(SessionLost("gone"))
        await trio.sleep(1)
        assert after.payloads == numbered(4, 1)


@pytest.mark.parametrize("brokers_are", ["in-order", "equal", "cluster"])
async def test_only_the_nodes_of_a_cluster_have_one_session(
    brokers_are: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sessions: tuple[list[Session | Exception], list[Session | Exception]] = ([FakeSession()], [FakeSession()])
    all_sessions = [*sessions[0], *sessions[1]]
    async with open_two(monkeypatch, *sessions, brokers_are=brokers_are, client_id="me") as (_, opened):
        await trio.sleep(1)
        for session in all_sessions:
            assert isinstance(session, FakeSession)
            session.lose()
            await trio.sleep(0.1)
        await trio.sleep(1)
        assert (opened.states["first"] is opened.states["second"]) == (brokers_are == "cluster")
    assert ("session of this client" in caplog.text) == (brokers_are != "cluster")


def test_what_is_released_comes_in_the_order_in_which_it_was_sent() -> None:
    source, session = Source(), FakeSession(session_present=True)
    source.begun_before = 6  # so the broker may hold any of 3 to 6, under the identifiers 4, 1, 2, 3
    gateway = ExactlyOnce(range(1, 5), cast(Any, source))
    gateway.connected(session)
    gateway.publish(Message("t", b"x", 2), 1 + 7 % 4, Header(7, 0), lambda packet_id, refusal: None)
    assert session.released == [4, 1, 2, 3]


def test_the_next_gateway_knows_at_which_broker_a_message_of_qos_2_was_begun() -> None:
    """In one gateway after the other: what the broker may know of a message that was begun before."""
    memory, begun = memoryview(bytearray(MEMORY)), [0]

    def publish_at(broker: int, number: int) -> tuple[bool, list[int]]:
        source, session = Source(), FakeSession(acknowledges=False, session_present=True)
        source.begun_before = begun[0]
        gateway = ExactlyOnce(range(1, 5), cast(Any, source), memory)
        gateway.connected(session, broker)
        header = Header(number, 0)
        gateway.publish(Message("t", b"x", 2), 1 + number % 4, header, lambda packet_id, refusal: None)
        begun[0] = max(begun[0], number)
        [message] = session.published
        return message.redelivered, session.released

    nothing, all_ids = list[int](), [1, 2, 3, 4]
    after_1 = [3, 4, 1, 2]  # the same, in the order in which they were used
    assert publish_at(7, 1) == (False, all_ids)
    assert publish_at(7, 1) == (True, nothing)
    assert publish_at(8, 1) == (False, after_1)  # the first may have it, this one hasn't
    assert publish_at(8, 1) == (True, nothing)
    assert publish_at(8, 2) == (False, after_1)
    assert publish_at(8, 2) == (True, nothing)
    assert publish_at(7, 2) == (False, after_1)  # it may hold the first message, and none that came later


def test_what_waits_at_another_broker_is_released_in_the_order_in_which_it_was_sent_there() -> None:
    """The identifiers have begun anew since. The gateway is killed again and again, once before all is released."""
    memory, begun = memoryview(bytearray(MEMORY)), 0

    def publish_at(broker: int, numbers: range) -> list[int]:
        nonlocal begun
        source, session = Source(), FakeSession(session_present=True)
        source.begun_before = begun
        gateway = ExactlyOnce(range(1, 5), cast(Any, source), memory)
        gateway.connected(session, broker)
        for number in numbers:
            gateway.publish(Message("t", b"x", 2), 1 + number % 4, Header(number, 0), lambda packet_id, refusal: None)
            begun = max(begun, number)
        return session.released

    def released_at(broker: int, number: int) -> list[int]:
        """Of a gateway that is killed before an exchange is completed."""
        source, session = Source(), FakeSession(session_present=True)
        session.completes = False
        source.begun_before = begun
        gateway = ExactlyOnce(range(1, 5), cast(Any, source), memory)
        gateway.connected(session, broker)
        gateway.publish(Message("t", b"x", 2), 1 + number % 4, Header(number, 0), lambda packet_id, refusal: None)
        return session.released

    publish_at(7, range(1, 7))  # it may hold 3 to 6, under 4, 1, 2, 3
    publish_at(8, range(7, 10))  # 6 to 9, under 3, 4, 1, 2
    publish_at(9, range(10, 13))
    assert released_at(7, 13) == [4, 1, 2, 3]
    assert released_at(7, 13) == [4, 1, 2, 3]
    assert released_at(8, 13) == [3, 4, 1, 2]
    assert publish_at(7, range(13, 14)) == [4, 1, 2, 3]
    assert publish_at(8, range(14, 15)) == [3, 4, 1, 2]
    assert publish_at(7, range(15, 16)) == [3, 4, 1, 2]  # of 10 to 13
