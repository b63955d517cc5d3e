"""Inbound through the bridge: backlog, limits, and acknowledgements when a message is safe."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio import Metadata, MqttConnector, MqttOptions, RawCodec
from taktora_trio.connectors.mqtt.inbound import MESSAGE_OVERHEAD, InboundMessages
from taktora_trio.connectors.mqtt.sessions.session import Message
from taktora_trio.executor import Executor
from taktora_trio.health import HealthBoard, Up
from tests.mqtt.rig import FakeSession, Memory, Sink, inbound, numbered, open_bridge


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
    messages = InboundMessages(connector, cast(Any, {f"in{n}": sink for n, sink in enumerate(sinks)}), board)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.expire)
        executor = Executor()
        messages.add_items(executor, lambda channel: channel.name)
        nursery.start_soon(executor.run)
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


async def test_a_message_that_no_channel_is_for_is_counted_and_shown(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink()
    async with open_inbound(sink) as (messages, health):
        for number in range(7):  # as many reasons as log lines, whatever the topics are
            messages.deliver(Message(f"else\x1b/{number}" if number != 3 else "x" * 65_535, b"x"))
        assert (sink.take(), messages.discarded, messages.strays) == ([], 0, 7)
        told = [f"else\\x1b/{number}" for number in (0, 1)] + ["x" * 200 + "..."]
        reasons = [f"messages come that no channel is for, the last on '{topic}'" for topic in told]
        assert health[-1] == (f"Degraded ({'; '.join(reasons)})", 0.0)
        assert [reason in message for reason, message in zip(reasons, caplog.messages, strict=True)] == [True] * 3
        await trio.sleep(100)
        assert health[-1] == ("Up", 5.0)


async def test_metadata_in_the_backlog_counts_with_all_that_it_takes(autojump_clock: MockClock) -> None:
    sink, limit = Sink(window=1), 4 * 2**20
    async with open_inbound(sink, limit=limit) as (messages, _):
        tracemalloc.start()
        for number in range(50):
            properties = tuple((f"{number} {n}", "ä😀" * 3) for n in range(5_000))
            messages.deliver(Message("topic/x", b"", metadata=Metadata(user_properties=properties)))
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert messages.discarded > 40
        assert limit / 2 < taken < 1.3 * limit


async def test_topics_that_are_remembered_have_a_bound_in_bytes(autojump_clock: MockClock) -> None:
    async with open_inbound(Sink()) as (messages, _):
        for number in range(10_000):
            messages.deliver(Message(f"{number}/".ljust(number % 300, "x"), b""))
        assert sum(map(len, messages._matching)) <= 2**20


async def test_whether_it_was_retained_goes_along(autojump_clock: MockClock) -> None:
    sink = Sink(window=1)
    async with open_inbound(sink) as (messages, _):
        for retain in (True, False, True):
            messages.deliver(Message("topic/x", b"", retained=retain))
        for _ in range(3):
            await wait_all_tasks_blocked()
            sink.take()
        assert sink.retained == [True, False, True]


async def test_a_stop_says_what_the_app_has_not_had_and_what_of_it_is_lost(
    memory: Memory, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    broker, options = memory
    sink = Sink(window=1)
    async with open_bridge(inbound("in", "a/#", 1), sinks={"in": sink}, **options):
        for qos in (1, 1, 1, 0):  # one is in shared memory, three wait for room
            broker.deliver(Message("a/b", b"", qos))
        sink.unread = 1  # whoever would read it is gone
    told = "stopped with 4 inbound messages that the app has not had: 2 are lost, 2 are not acknowledged to the broker"
    assert f"channel in: {told}" in caplog.text


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
