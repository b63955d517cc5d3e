"""The bridge with fakes on both sides, in virtual time; whole systems are tested in tests/deployment."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio import (
    Backoff,
    BackPressure,
    Header,
    Inbound,
    Metadata,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    PayloadOverflow,
    RawCodec,
    Received,
)
from taktora_trio.channel import NO_CORRELATION_ID, ChannelDescriptor
from taktora_trio.connector import GatewayChannels
from taktora_trio.errors import TransportError
from taktora_trio.health import HealthBoard, Up
from taktora_trio.mqtt import bridge
from taktora_trio.mqtt.inbound import MESSAGE_OVERHEAD, InboundMessages
from taktora_trio.mqtt.options import LastWill
from taktora_trio.mqtt.outbound import OutboundPump
from taktora_trio.mqtt.sessions.memory import MemoryBroker
from taktora_trio.mqtt.sessions.session import (
    ConnectFailed,
    ConnectRefused,
    Message,
    OnDone,
    OnMessage,
    Session,
    SessionLost,
)
from taktora_trio.mqtt.sessions.state import SessionState

BACKOFF = Backoff(initial=1, maximum=4, factor=2, jitter=0)


class Source:
    """What the app has sent; an exception in the queue is what reading it raises."""

    def __init__(self, *payloads: bytes | Received[bytes] | Exception) -> None:
        self.queue: deque[bytes | Received[bytes] | Exception] = deque(payloads)
        self.acknowledged: list[int] = []
        self.sent_before = 0
        self._taken = 0
        self._more = trio.Event()

    def put(self, *payloads: bytes | Received[bytes] | Exception) -> None:
        self.queue.extend(payloads)
        self._more.set()

    @property
    def is_behind(self) -> bool:
        return bool(self.queue)

    def receive_nowait(self) -> Received[bytes]:
        if not self.queue:
            raise trio.WouldBlock
        payload = self.queue.popleft()
        if isinstance(payload, Exception):
            raise payload
        self._taken += 1
        if isinstance(payload, Received):
            return payload
        return Received(payload, Header(self._taken, 0), "")

    def acknowledge(self, header: Header) -> None:
        self.acknowledged.append(header.sequence_number)

    async def wait(self) -> None:
        await self._more.wait()
        self._more = trio.Event()


class Sink:
    """A channel with room for `window` messages, until the app takes some."""

    def __init__(self, window: int = 1000, max_payload: int = 100) -> None:
        self._window, self._max_payload = window, max_payload
        self._waiting: deque[tuple[bytes, str]] = deque()
        self._space = trio.Event()
        self.topics: list[str] = []
        self.said: list[tuple[bytes, Metadata | None]] = []

    def send_nowait(
        self,
        value: bytes,
        *,
        topic: str = "",
        correlation_id: bytes = NO_CORRELATION_ID,
        metadata: Metadata | None = None,
    ) -> None:
        if len(value) > self._max_payload:
            raise PayloadOverflow(f"{len(value)} bytes")
        if len(self._waiting) >= self._window:
            raise BackPressure("full")
        self._waiting.append((value, topic))
        self.topics.append(topic)
        self.said.append((correlation_id, metadata))

    def find_reader(self) -> None: ...

    async def send(
        self,
        value: bytes,
        *,
        topic: str = "",
        correlation_id: bytes = NO_CORRELATION_ID,
        metadata: Metadata | None = None,
    ) -> None:
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.send_nowait(value, topic=topic, correlation_id=correlation_id, metadata=metadata)
            except BackPressure:
                self._space = trio.Event()
                await self._space.wait()

    def take(self, count: int = 1000) -> list[bytes]:
        taken = [self._waiting.popleft()[0] for _ in range(min(count, len(self._waiting)))]
        self._space.set()
        return taken


class FakeSession(Session):
    """Acknowledges when the test says so, or at once."""

    def __init__(self, *, acknowledges: bool = True, refusal: str = "", session_present: bool = False) -> None:
        self.acknowledges = acknowledges
        self.refusal = refusal
        self.session_present = session_present
        self.published: list[Message] = []
        self.unacknowledged: list[Callable[[], None]] = []
        self.ids: list[int] = []
        self.inbound_acknowledged: list[Message] = []
        self.released: list[int] = []
        self.holds: list[bool] = []
        self.subscribed: list[dict[str, int]] = []
        self.closed_at: float | None = None
        self._lost = trio.Event()

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.published]

    async def subscribe(self, filters: Mapping[str, int]) -> None:
        await trio.lowlevel.checkpoint()
        self.subscribed.append(dict(filters))

    def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
        self.published.append(message)
        self.ids.append(packet_id)
        if self.acknowledges:
            on_done(packet_id, self.refusal)
        else:
            self.unacknowledged.append(partial(on_done, packet_id, self.refusal))

    def finish(self, *indices: int) -> None:
        """The broker acknowledges what was published."""
        for on_done in [self.unacknowledged[index] for index in indices]:
            on_done()

    def acknowledge(self, message: Message) -> None:
        self.inbound_acknowledged.append(message)

    def release(self, packet_id: int) -> None:
        self.released.append(packet_id)

    def hold(self, reading: bool) -> None:
        self.holds.append(reading)

    def lose(self) -> None:
        self._lost.set()

    async def wait_until_lost(self) -> SessionLost:
        await self._lost.wait()
        return SessionLost("connection reset")


@attrs.define
class FakeBroker:
    """Takes the place of `open_session`: each connect gets the next of `answers`, the last one for ever."""

    answers: Sequence[Session | Exception | None]
    connects: list[float] = attrs.field(factory=list)
    on_message: OnMessage | None = None
    options: MqttOptions | None = None

    @contextlib.asynccontextmanager
    async def open_session(
        self, options: MqttOptions, on_message: OnMessage, state: SessionState, max_payload: int
    ) -> AsyncIterator[Session]:
        answer = self.answers[min(len(self.connects), len(self.answers) - 1)]
        self.connects.append(trio.current_time())
        self.on_message, self.options = on_message, options
        await trio.lowlevel.checkpoint()
        if answer is None:
            await trio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Session)
        try:
            yield answer
        finally:
            if isinstance(answer, FakeSession):
                answer.closed_at = trio.current_time()


@attrs.define
class Bridge:
    """A running bridge."""

    sources: dict[str, Source]
    sinks: dict[str, Sink]
    stop: trio.Event
    health: list[tuple[str, float]] = attrs.field(factory=list)
    duties: list[Callable[[], str | None]] = attrs.field(factory=list)
    ended: trio.Event = attrs.field(factory=trio.Event)
    ended_at: float | None = None

    async def stopped(self) -> float | None:
        """Stop it; return when it ended."""
        self.stop.set()
        await self.ended.wait()
        return self.ended_at


@contextlib.asynccontextmanager
async def open_bridge(
    *channels: ChannelDescriptor[Any], sinks: dict[str, Sink] | None = None, **options: Any
) -> AsyncIterator[Bridge]:
    """Serve these channels; every health event is recorded with its time."""
    connector = MqttConnector(channels, codec=RawCodec(), options=MqttOptions(**{"reconnect": BACKOFF, **options}))
    outbound = {channel.name: Source() for channel in channels if channel.direction == "out"}
    inbound = {channel.name: Sink() for channel in channels if channel.direction == "in"} | (sinks or {})
    running = Bridge(outbound, inbound, trio.Event())
    board = HealthBoard(
        [connector.name], on_event=lambda event: running.health.append((str(event.after), trio.current_time()))
    )

    async def serve() -> None:
        await connector.serve_gateway(GatewayChannels(outbound, inbound, duties=running.duties), board, running.stop)
        running.ended_at = trio.current_time()
        running.ended.set()

    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(board.expire)
            nursery.start_soon(serve)
            await wait_all_tasks_blocked()
            yield running
            await running.stopped()
            nursery.cancel_scope.cancel()


def outbound(name: str = "out", **options: Any) -> Outbound[bytes]:
    return Outbound(name, bytes, MqttRouting(f"topic/{name}", qos=1), **options)


def inbound(name: str, topic_filter: str, qos: Any = 0) -> Inbound[bytes]:
    return Inbound(name, bytes, MqttRouting(topic_filter, qos=qos))


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


Fake: TypeAlias = Callable[..., FakeBroker]
Memory: TypeAlias = tuple[MemoryBroker, dict[str, Any]]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a fake broker in place of every session."""

    def make(*answers: Session | Exception | None) -> FakeBroker:
        broker = FakeBroker(answers)
        monkeypatch.setattr(bridge, "open_session", broker.open_session)
        return broker

    return make


@pytest.fixture
def memory() -> Memory:
    """A broker in memory that nobody else uses, and the options to reach it."""
    host = f"{uuid.uuid4().hex}.example"
    return MemoryBroker.at(host, 1883), {"session": "memory", "broker": f"mqtt://{host}"}


# Connecting


async def test_unreachable_is_tried_again_with_backoff(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession()
    broker = fake(*[ConnectFailed("no route")] * 5, session)
    async with open_bridge(outbound()) as running:
        await trio.sleep(100)
        assert broker.connects == [0, 1, 3, 7, 11, 15]
        assert running.health == [("Up", 15)]


async def test_a_lost_connection_is_renewed_and_the_backoff_starts_over(fake: Fake, autojump_clock: MockClock) -> None:
    first, second = FakeSession(), FakeSession()
    broker = fake(ConnectFailed("no route"), ConnectFailed("no route"), first, second)
    async with open_bridge(outbound()) as running:
        await trio.sleep(10)
        first.lose()
        await trio.sleep(10)
        assert broker.connects == [0, 1, 3, 11]
        assert running.health == [("Up", 3), ("Connecting", 10), ("Up", 11)]
        assert first.closed_at == 10
    assert running.health[3:] == [("Down (the gateway was stopped)", 20)]


async def test_a_refused_login_is_down_and_not_tried_again(
    fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    broker = fake(ConnectRefused("the broker refused the login: Not authorized"))
    async with open_bridge(outbound()) as running:
        await trio.sleep(500)
        assert broker.connects == [0]
        assert running.health == [("Down (the broker refused the login: Not authorized)", 0)]
        assert await running.stopped() == 500
    assert [record.levelno for record in caplog.records if record.levelno > logging.INFO] == [logging.ERROR]


async def test_a_refused_subscription_is_down_too(fake: Fake, autojump_clock: MockClock) -> None:
    class Refusing(FakeSession):
        async def subscribe(self, filters: Mapping[str, int]) -> None:
            raise ConnectRefused(f"the broker refused the subscription to {', '.join(filters)}")

    session = Refusing()
    broker = fake(session)
    async with open_bridge(inbound("in", "a/#")) as running:
        await trio.sleep(500)
        assert broker.connects == [0]
        assert running.health == [("Down (the broker refused the subscription to a/#)", 0)]
        assert session.closed_at == 0


async def test_lost_while_subscribing(fake: Fake, autojump_clock: MockClock) -> None:
    class Losing(FakeSession):
        async def subscribe(self, filters: Mapping[str, int]) -> None:
            raise SessionLost("reset")

    broker = fake(Losing(), FakeSession())
    async with open_bridge(inbound("in", "a/#")) as running:
        await trio.sleep(10)
        assert broker.connects == [0, 1]
        assert running.health == [("Up", 1)]


@pytest.mark.parametrize("answer", [None, ConnectFailed("no route")], ids=["hanging", "in the delay"])
async def test_a_stop_while_connecting_is_at_once(
    fake: Fake, answer: Exception | None, autojump_clock: MockClock
) -> None:
    fake(answer)
    async with open_bridge(outbound(), reconnect=Backoff(initial=60, maximum=60)) as running:
        await trio.sleep(7)
        assert await running.stopped() == 7
    assert running.health == [("Down (the gateway was stopped)", 7)]


async def test_an_error_that_nobody_expects_is_not_swallowed(fake: Fake, autojump_clock: MockClock) -> None:
    fake(ZeroDivisionError())
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with open_bridge(outbound()):
            await trio.sleep(1)


# Subscribing


async def test_each_filter_is_subscribed_once_at_its_highest_qos_and_again_after_a_reconnect(
    memory: Memory, autojump_clock: MockClock
) -> None:
    broker, options = memory
    channels = [
        inbound("a", "plant/+", 0),
        inbound("b", "plant/+", 2),
        inbound("c", "plant/+", 1),
        inbound("d", "plant/1", 0),
        inbound("e", "other/#", 1),
    ]
    async with open_bridge(*channels, **options) as running:
        wanted = {"plant/+": 2, "other/#": 1}
        assert broker.subscribed == [wanted]
        broker.drop_all()
        await trio.sleep(10)
        assert broker.subscribed == [wanted, wanted]
        assert broker.connects == 2
        broker.deliver(Message("plant/1", b"x"))
        assert {name: sink.take() for name, sink in running.sinks.items()} == {
            "a": [b"x"],
            "b": [b"x"],
            "c": [b"x"],
            "d": [b"x"],
            "e": [],
        }
        # The concrete topic travels only where the routing does not say it.
        assert [sink.topics for sink in running.sinks.values()] == [["plant/1"]] * 3 + [[""], []]
    assert broker.sessions == []


# Outbound


async def test_each_channel_keeps_its_order(memory: Memory, autojump_clock: MockClock) -> None:
    broker, options = memory
    channels = [outbound("a"), outbound("b"), inbound("all", "topic/#")]
    async with open_bridge(*channels, **options) as running:
        for number in numbered(100):
            running.sources["a"].put(b"a" + number)
            running.sources["b"].put(b"b" + number)
        await wait_all_tasks_blocked()
        arrived = running.sinks["all"].take()
    for name in (b"a", b"b"):
        assert [payload for payload in arrived if payload[:1] == name] == [name + number for number in numbered(100)]
    assert broker.connects == 1


async def test_a_message_has_the_topic_qos_and_retain_of_its_routing(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession()
    fake(session)
    channel = Outbound("out", bytes, MqttRouting("a/b", qos=2, retain=True))
    async with open_bridge(channel) as running:
        running.sources["out"].put(b"x")
        await wait_all_tasks_blocked()
    assert session.published == [Message("a/b", b"x", 2, True)]


async def test_no_more_than_max_inflight_are_on_their_way(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession(acknowledges=False)
    fake(session)
    async with open_bridge(outbound(), max_inflight=3) as running:
        running.sources["out"].put(*numbered(10))
        await wait_all_tasks_blocked()
        assert session.payloads == numbered(3)
        session.finish(1)  # what comes after an unacknowledged one still counts: order is kept by a queue
        await wait_all_tasks_blocked()
        assert session.payloads == numbered(3)
        session.finish(0)
        await wait_all_tasks_blocked()
        assert session.payloads == numbered(5)
        session.finish(2, 3, 4)
        await wait_all_tasks_blocked()
        assert session.payloads == numbered(8)
        session.acknowledges = True
        session.finish(5, 6, 7)
        await wait_all_tasks_blocked()
        assert session.payloads == numbered(10)


async def test_work_that_does_not_move_is_named(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession(acknowledges=False)
    fake(ConnectFailed("no route"), session)
    async with open_bridge(outbound(), max_inflight=4) as running:
        source, (stalled,) = running.sources["out"], running.duties
        source.put(b"0")
        assert [stalled(), stalled()] == [None, None], "without a connection it can do nothing"
        await trio.sleep(2)
        assert [stalled(), stalled()] == [None, None], "all is published"
        source.put(*numbered(100, start=1))
        await wait_all_tasks_blocked()
        assert [stalled(), stalled()] == [None, None], "as many are on their way as may be"
        session.acknowledges = True
        session.finish(0, 1, 2, 3)
        await wait_all_tasks_blocked()
        assert source.queue == deque()
        source.queue.append(b"of which nobody was told")
        assert [stalled(), stalled()] == [None, "channel out: messages wait, and none is taken"]
        source.put()
        await wait_all_tasks_blocked()
        assert stalled() is None


async def test_a_channel_that_is_not_acknowledged_does_not_hold_up_another(
    fake: Fake, autojump_clock: MockClock
) -> None:
    class Deaf(FakeSession):
        def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
            super().publish(message, packet_id, on_done if message.topic == "topic/b" else lambda *_: None)

    session = Deaf()
    fake(session)
    async with open_bridge(outbound("a"), outbound("b"), max_inflight=2) as running:
        running.sources["a"].put(*numbered(5))
        running.sources["b"].put(*numbered(5))
        await wait_all_tasks_blocked()
        assert [m.payload for m in session.published if m.topic == "topic/a"] == numbered(2)
        assert [m.payload for m in session.published if m.topic == "topic/b"] == numbered(5)


@pytest.mark.parametrize("acknowledges", [False, True], ids=["acknowledged later", "acknowledged at once"])
async def test_what_was_not_acknowledged_is_published_first_on_the_next_session(
    fake: Fake, acknowledges: bool, autojump_clock: MockClock
) -> None:
    first, second = FakeSession(acknowledges=False), FakeSession(acknowledges=acknowledges)
    fake(first, second)
    async with open_bridge(outbound()) as running:
        running.sources["out"].put(*numbered(5))
        await wait_all_tasks_blocked()
        first.finish(0, 1)
        first.lose()
        await wait_all_tasks_blocked()
        running.sources["out"].put(*numbered(3, start=5))
        await trio.sleep(10)
        assert first.payloads == numbered(5)
        assert second.payloads == numbered(6, start=2)
        second.finish(*range(len(second.unacknowledged)))


async def test_what_was_acknowledged_out_of_order_is_not_published_twice(fake: Fake, autojump_clock: MockClock) -> None:
    first, second = FakeSession(acknowledges=False), FakeSession(acknowledges=False)
    fake(first, second)
    async with open_bridge(outbound()) as running:
        running.sources["out"].put(*numbered(4))
        await wait_all_tasks_blocked()
        first.finish(1, 3)
        first.lose()
        await trio.sleep(10)
        assert second.payloads == [b"0", b"2"]
        second.finish(0, 1)


async def test_nothing_is_taken_from_the_app_without_a_connection(fake: Fake, autojump_clock: MockClock) -> None:
    fake(ConnectFailed("no route"))
    async with open_bridge(outbound()) as running:
        running.sources["out"].put(*numbered(5))
        await trio.sleep(100)
        assert list(running.sources["out"].queue) == numbered(5)


async def test_a_corrupt_envelope_is_logged_and_the_next_one_published(
    fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    session = FakeSession()
    fake(session)
    async with open_bridge(outbound()) as running:
        running.sources["out"].put(b"0", TransportError("lengths that can't be true"), b"1")
        await wait_all_tasks_blocked()
    assert session.payloads == numbered(2)
    assert "channel out: lengths that can't be true" in caplog.text


# Stopping


async def test_a_stop_drains_what_is_queued(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession(acknowledges=False)
    fake(session)
    async with open_bridge(outbound(), max_inflight=2, drain_timeout=60) as running:
        running.sources["out"].put(*numbered(5))
        await wait_all_tasks_blocked()
        assert session.payloads == numbered(2)
        running.stop.set()
        await trio.sleep(1)
        session.finish(0, 1)
        await trio.sleep(1)
        session.finish(2, 3)
        await trio.sleep(1)
        assert session.payloads == numbered(5)
        assert running.ended_at is None  # what is published is not yet acknowledged
        session.finish(4)
        await wait_all_tasks_blocked()
        assert [running.ended_at, session.closed_at] == [3, 3]


async def test_the_drain_is_bounded_and_says_what_is_left(
    fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    session = FakeSession(acknowledges=False)
    fake(session)
    async with open_bridge(outbound(), drain_timeout=1.5) as running:
        running.sources["out"].put(*numbered(3))
        await trio.sleep(10)
        assert await running.stopped() == 11.5
    assert "channel out: stopped with 3 messages not acknowledged" in caplog.text
    assert running.health == [("Up", 0), ("Down (the gateway was stopped)", 11.5)]


async def test_a_stop_without_a_connection_says_what_is_left(
    fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    session = FakeSession(acknowledges=False)
    fake(session, ConnectFailed("no route"))
    async with open_bridge(outbound()) as running:
        running.sources["out"].put(*numbered(3))
        await trio.sleep(1)
        session.lose()
        await trio.sleep(10)
    assert "channel out: stopped with 3 messages not acknowledged" in caplog.text


async def test_an_app_that_goes_on_sending_does_not_keep_the_drain_going(fake: Fake, autojump_clock: MockClock) -> None:
    source = Source()

    class Feeding(FakeSession):
        def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
            super().publish(message, packet_id, on_done)
            source.put(b"more")

    session = Feeding()
    pump = OutboundPump(outbound(window=7), source, max_inflight=64)
    source.put(b"first")
    with trio.fail_after(10):
        await pump.drain(session)
    assert len(session.published) == 7


async def test_a_drain_ends_when_its_session_is_lost(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession(acknowledges=False)
    broker = fake(session)
    async with open_bridge(outbound(), drain_timeout=60) as running:
        running.sources["out"].put(b"0")
        await wait_all_tasks_blocked()
        running.stop.set()
        await trio.sleep(2)
        session.lose()
        assert await running.stopped() == 2
    assert broker.connects == [0]


# Inbound


@contextlib.asynccontextmanager
async def open_inbound(
    *sinks: Sink, limit: int = 2**20
) -> AsyncIterator[tuple[InboundMessages, list[tuple[str, float]]]]:
    """Channels `in0`, `in1`, ... that subscribe to `topic/#`, connected; with the record of their health."""
    channels = [inbound(f"in{number}", "topic/#") for number in range(len(sinks))]
    connector = MqttConnector(channels, codec=RawCodec(), options=MqttOptions(inbound_backlog=limit))
    record: list[tuple[str, float]] = []
    board = HealthBoard(["mqtt"], on_event=lambda event: record.append((str(event.after), trio.current_time())))
    board.report("mqtt", Up())
    record.clear()
    messages = InboundMessages(connector, {f"in{number}": sink for number, sink in enumerate(sinks)}, board)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.expire)
        nursery.start_soon(messages.serve)
        await wait_all_tasks_blocked()
        yield messages, record
        nursery.cancel_scope.cancel()


def deliver(messages: InboundMessages, payloads: Sequence[bytes]) -> None:
    for payload in payloads:
        messages.deliver(Message("topic/x", payload))


async def test_a_slow_reader_loses_nothing_and_keeps_the_order(autojump_clock: MockClock) -> None:
    sink = Sink(window=4)
    async with open_inbound(sink) as (messages, health):
        deliver(messages, numbered(50))
        arrived = []
        for start in range(50, 100):  # newer ones queue up behind the backlog, while it is being worked off
            await wait_all_tasks_blocked()
            arrived += sink.take(1)
            deliver(messages, numbered(1, start))
        while taken := sink.take(3):
            arrived += taken
            await wait_all_tasks_blocked()
        assert arrived == numbered(100)
        assert (messages.discarded, health) == (0, [])


async def test_after_the_backlog_messages_go_straight_into_the_channel_again(autojump_clock: MockClock) -> None:
    sink = Sink(window=2)
    async with open_inbound(sink) as (messages, _):
        deliver(messages, numbered(3))
        assert sink.take() == numbered(2)
        await wait_all_tasks_blocked()
        assert sink.take() == [b"2"]
        deliver(messages, [b"3"])
        assert sink.take() == [b"3"]


async def test_a_slow_reader_does_not_hold_up_another(autojump_clock: MockClock) -> None:
    slow, fast = Sink(window=1), Sink()
    async with open_inbound(slow, fast) as (messages, _):
        deliver(messages, numbered(50))
        assert fast.take() == numbered(50)


async def test_beyond_the_limit_messages_are_discarded_counted_and_shown(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink(window=1)
    size = 1 + len("topic/x") + MESSAGE_OVERHEAD
    async with open_inbound(sink, limit=3 * size) as (messages, health):
        await trio.sleep(1)
        deliver(messages, numbered(9))  # one into the channel, three into the backlog
        assert messages.discarded == 5
        degraded = ("Degraded (channel in0 discards inbound messages)", 1.0)
        assert health == [degraded]
        arrived = []
        for _ in range(5):
            arrived += sink.take()
            await wait_all_tasks_blocked()
        assert arrived == numbered(4)
        deliver(messages, numbered(1, 9))
        assert sink.take() == [b"9"]
        await trio.sleep(100)
        assert health == [degraded, ("Up", 6.0)]
        # All of the limit is there again, for the backlog gave back what it took.
        deliver(messages, numbered(4))
        assert messages.discarded == 5
    counts = [
        record.args[1] for record in caplog.records if isinstance(record.args, tuple) and "discarded" in record.msg
    ]
    assert counts == [1, 2, 4]  # a flood does not flood the log


@pytest.mark.parametrize("window", [10, 1], ids=["with room", "through the backlog"])
async def test_an_oversized_message_is_discarded_counted_and_shown_and_the_next_one_arrives(
    window: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink(window=window)
    async with open_inbound(sink) as (messages, health):
        deliver(messages, [b"0", b"x" * 101, b"1", b"2"])
        arrived = []
        for _ in range(5):
            arrived += sink.take()
            await wait_all_tasks_blocked()
        assert arrived == numbered(3)
        assert messages.discarded == 1
        await trio.sleep(100)
        assert health == [("Degraded (channel in0 discards inbound messages)", 0.0), ("Up", 5.0)]
    assert "a message on 'topic/x' is too large: 101 bytes" in caplog.text


async def test_a_message_that_no_channel_wants_is_ignored(autojump_clock: MockClock) -> None:
    sink = Sink()
    async with open_inbound(sink) as (messages, health):
        messages.deliver(Message("elsewhere", b"x"))
        assert (sink.take(), messages.discarded, health) == ([], 0, [])


async def test_a_stop_says_what_the_app_had_no_room_for(
    memory: Memory, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    broker, options = memory
    async with open_bridge(inbound("in", "a/#"), sinks={"in": Sink(window=1)}, **options):
        for payload in numbered(4):
            broker.deliver(Message("a/b", payload))
    assert "channel in: stopped with 3 inbound messages that the app had no room for" in caplog.text


# Inbound at QoS 1 and 2: acknowledged when safe, and never discarded for want of room


async def test_a_message_is_acknowledged_when_every_channel_has_it(autojump_clock: MockClock) -> None:
    fast, slow = Sink(), Sink(window=1)
    session = FakeSession()
    async with open_inbound(fast, slow) as (messages, _):
        messages.attach(session)
        arrived = [Message("topic/x", payload, 1, packet_id=number + 1) for number, payload in enumerate(numbered(4))]
        for message in arrived:
            messages.deliver(message)
        assert fast.take() == numbered(4)
        assert session.inbound_acknowledged == arrived[:1]
        for count in (2, 3, 4):
            slow.take(1)
            await wait_all_tasks_blocked()
            assert session.inbound_acknowledged == arrived[:count]
        messages.deliver(Message("nobody/wants", b"", 2, packet_id=9))
        assert session.inbound_acknowledged[-1].packet_id == 9, "else the broker would send it for ever"


async def test_an_oversized_message_is_acknowledged_too(autojump_clock: MockClock) -> None:
    session = FakeSession()
    async with open_inbound(Sink()) as (messages, _):
        messages.attach(session)
        messages.deliver(Message("topic/x", b"x" * 101, 1, packet_id=1))
        messages.deliver(Message("topic/x", b"", 1, packet_id=2, skipped=2**28))
        assert [message.packet_id for message in session.inbound_acknowledged] == [1, 2]
        assert messages.discarded == 2


async def test_with_a_full_backlog_nothing_more_is_read_and_nothing_lost(autojump_clock: MockClock) -> None:
    sink, first, second = Sink(window=1), FakeSession(), FakeSession()
    size = 1 + len("topic/x") + MESSAGE_OVERHEAD
    async with open_inbound(sink, limit=4 * size) as (messages, health):
        messages.attach(first)
        for number in range(8):  # what was read with the one that was too much still comes
            messages.deliver(Message("topic/x", b"%d" % number, 1, packet_id=number + 1))
        assert first.holds == [True]
        assert messages.discarded == 0
        assert health == [("Degraded (channel in0 is not read: no more is taken from the broker)", 0.0)]
        messages.deliver(Message("topic/x", b"a QoS 0 message is discarded"))
        assert messages.discarded == 1
        messages.attach(second)  # a new connection is no reason to read again
        assert second.holds == [True]
        arrived = []
        while taken := sink.take():
            arrived += taken
            await wait_all_tasks_blocked()
        assert arrived == numbered(8)
        assert second.holds == [True, False]
        assert [message.packet_id for message in second.inbound_acknowledged] == list(range(2, 9))


async def test_nothing_is_lost_or_comes_twice_over_broken_connections(
    memory: Memory, autojump_clock: MockClock
) -> None:
    broker, options = memory
    sink = Sink(window=2)
    async with open_bridge(inbound("in", "a/#", qos=1), sinks={"in": sink}, client_id="one", **options):
        arrived: list[bytes] = []
        for round_ in range(5):
            for payload in numbered(4, start=4 * round_):
                broker.deliver(Message("a/b", payload, 1))
            arrived += sink.take(3)
            await wait_all_tasks_blocked()
            broker.drop_all()
            broker.deliver(Message("a/b", b"while away %d" % round_, 1))
            await trio.sleep(10)
        while taken := sink.take():
            arrived += taken
            await wait_all_tasks_blocked()
        expected = []
        for round_ in range(5):
            expected += [*numbered(4, start=4 * round_), b"while away %d" % round_]
        assert arrived == expected
        await wait_all_tasks_blocked()
        assert broker.kept["one"].unacknowledged == {}


@pytest.mark.parametrize(
    ("qos", "persistent", "kept"), [(0, None, 0), (1, None, 1), (2, None, 1), (1, False, 0), (0, True, 1)]
)
async def test_the_session_is_persistent_where_that_keeps_messages(
    qos: Any, persistent: bool | None, kept: int, memory: Memory, autojump_clock: MockClock
) -> None:
    broker, options = memory
    async with open_bridge(inbound("in", "a/#", qos=qos), client_id="one", persistent=persistent, **options):
        assert len(broker.kept) == kept


# Properties


async def test_metadata_and_correlation_ids_travel_both_ways(memory: Memory, autojump_clock: MockClock) -> None:
    _, options = memory
    metadata = Metadata("text/plain", user_properties=(("a", "b"),))
    sink = Sink()
    channels = [outbound("out"), inbound("in", "topic/#")]
    async with open_bridge(*channels, sinks={"in": sink}, protocol="5", **options) as running:
        running.sources["out"].put(Received(b"x", Header(1, 0, b"id".ljust(32, b"\0")), "", metadata))
        await wait_all_tasks_blocked()
        assert sink.take() == [b"x"]
        assert sink.said == [(b"id".ljust(32, b"\0"), metadata)]


# Refusals


async def test_what_the_broker_refuses_is_counted_and_shown_and_not_tried_again(
    fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    first, second = FakeSession(refusal="Quota exceeded"), FakeSession()
    fake(first, second)
    async with open_bridge(outbound()) as running:
        running.sources["out"].put(*numbered(5))
        await trio.sleep(1)
        assert running.sources["out"].acknowledged == [1, 2, 3, 4, 5]
        first.lose()
        await trio.sleep(10)
        assert second.published == []
    shown = "Degraded (channel out: the broker refuses messages: Quota exceeded)"
    assert running.health[:2] == [("Up", 0), (shown, 0)]
    counts = [record.args[1] for record in caplog.records if isinstance(record.args, tuple) and "refused" in record.msg]
    assert counts == [1, 2, 4]


# Packet identifiers


async def test_identifiers_follow_from_the_sequence_number_and_never_meet(
    fake: Fake, autojump_clock: MockClock
) -> None:
    first, second = FakeSession(acknowledges=False), FakeSession(session_present=True)
    fake(first, second)
    async with open_bridge(outbound("a"), outbound("b"), max_inflight=4) as running:
        for name in ("a", "b"):
            running.sources[name].put(*numbered(6))
        await wait_all_tasks_blocked()
        ids = {
            (message.topic, message.payload): number for message, number in zip(first.published, first.ids, strict=True)
        }
        assert len(set(ids.values())) == 8
        assert all(1 <= number < 65_533 for number in ids.values())
        first.lose()
        await trio.sleep(10)
        again = {(m.topic, m.payload): number for m, number in zip(second.published, second.ids, strict=True) if m.dup}
        assert again == ids


async def test_with_very_many_channels_the_identifiers_still_suffice(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession()
    fake(session)
    channels = [outbound(f"c{number}", window=1) for number in range(1200)]
    async with open_bridge(*channels) as running:
        for source in running.sources.values():
            source.put(b"x")
        await wait_all_tasks_blocked()
    assert len(set(session.ids)) == 1200
    assert max(session.ids) < 65_533


async def test_identifiers_of_an_app_that_is_gone_are_released_before_they_are_used(
    fake: Fake, autojump_clock: MockClock
) -> None:
    session = FakeSession(session_present=True)
    fake(session)
    channel = Outbound("out", bytes, MqttRouting("a/b", qos=2))
    async with open_bridge(channel, max_inflight=4) as running:
        source = running.sources["out"]
        source.sent_before = 2  # the first two were perhaps sent by a gateway that was killed: the broker knows them
        source.put(*numbered(7))
        await wait_all_tasks_blocked()
        assert session.released == session.ids[2:4]
        assert len(session.published) == 7


# Presence


def presence(session: FakeSession) -> list[tuple[bytes, int, bool]]:
    return [(m.payload, m.qos, m.retain) for m in session.published if m.topic.startswith("taktora/")]


async def test_presence_is_up_when_connected_and_down_after_the_last_message(
    fake: Fake, autojump_clock: MockClock
) -> None:
    session = FakeSession()
    broker = fake(session)
    async with open_bridge(outbound(), client_id="one") as running:
        await wait_all_tasks_blocked()
        assert presence(session) == [(b"Up", 1, True)]
        assert broker.options is not None
        assert broker.options.will == LastWill("taktora/one/health", b"Down")
        running.sources["out"].put(b"last")
        await running.stopped()
    assert [message.payload for message in session.published] == [b"Up", b"last", b"Down"]


@pytest.mark.parametrize(
    "options", [{"presence": None, "client_id": "one"}, {"will": LastWill("a", b""), "client_id": "one"}, {}]
)
async def test_there_may_be_no_presence(fake: Fake, options: dict[str, Any], autojump_clock: MockClock) -> None:
    session = FakeSession()
    broker = fake(session)
    async with open_bridge(outbound(), **options):
        await wait_all_tasks_blocked()
        assert broker.options is not None
        assert broker.options.will == options.get("will")
    assert session.published == []


async def test_a_broker_that_does_not_take_the_presence_is_no_reason_to_fail(
    fake: Fake, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO)
    session = FakeSession(refusal="Not authorized")
    fake(session)
    async with open_bridge(outbound(), client_id="one") as running:
        await trio.sleep(1)
        assert running.health == [("Up", 0)]
    assert presence(session) == [(b"Up", 1, True)]
    assert "no presence on 'taktora/one/health': the broker does not take it: Not authorized" in caplog.text


async def test_nor_is_one_that_ends_the_connection_because_of_it(fake: Fake, autojump_clock: MockClock) -> None:
    class Touchy(FakeSession):
        def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
            self.published.append(message)
            self.lose()

    sessions = [Touchy() for _ in range(3)]
    broker = fake(*sessions)
    async with open_bridge(outbound(), client_id="one") as running:
        await trio.sleep(100)
        assert running.health[-1][0] == "Up"
        assert broker.connects == [0, 1, 2]
    assert [len(session.published) for session in sessions] == [1, 1, 0]


async def test_nor_one_that_refuses_the_will_with_the_login(fake: Fake, autojump_clock: MockClock) -> None:
    session = FakeSession()
    broker = fake(ConnectRefused("refused", "Not authorized"), session)
    async with open_bridge(outbound(), client_id="one") as running:
        await trio.sleep(1)
        assert broker.connects == [0, 0]
        assert broker.options is not None
        assert broker.options.will is None
        assert running.health == [("Up", 0)]
    assert session.published == []


async def test_a_broker_that_never_acknowledges_the_presence_does_not_hold_up_a_stop(
    fake: Fake, autojump_clock: MockClock
) -> None:
    session = FakeSession(acknowledges=False)
    fake(session)
    async with open_bridge(outbound(), client_id="one") as running:
        await trio.sleep(1)
        assert await running.stopped() == 1.5
