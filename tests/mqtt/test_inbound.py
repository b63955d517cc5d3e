"""Inbound through the bridge and MQTT's client: what the broker keeps, and how long."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio.connectors.mqtt.wire.message import Message
from tests.mqtt.rig import Memory, Sink, inbound, numbered, open_bridge


async def test_a_stop_says_what_the_app_has_not_had_and_what_of_it_is_lost(
    memory: Memory, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level("INFO")
    broker, options = memory
    sink = Sink(window=1)
    async with open_bridge(inbound("in", "a/#", 1), sinks={"in": sink}, **options):
        for qos in (1, 1, 1, 0):  # one is in shared memory, three wait for room
            broker.deliver(Message("a/b", b"", qos))
        sink.unread = 1  # whoever would read it is gone
    told = [(record.levelname, record.getMessage()) for record in caplog.records if "stopped with" in record.msg]
    lost = "channel in: stopped with 1 inbound messages that the app has not had and nobody keeps: lost"
    kept = "channel in: stopped with 3 inbound messages that the app is not done with: they are not acknowledged, and"
    assert told == [("WARNING", lost), ("INFO", f"{kept} come again if the other side keeps them")]


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


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("is_killed", [False, True])
async def test_each_connection_makes_progress_however_soon_it_is_over(
    qos: int, is_killed: bool, memory: Memory, autojump_clock: MockClock
) -> None:
    """What the app was done with leaves at once, also what it was done with while there was no connection."""
    broker, options = memory
    options = {**options, "client_id": "one", "persistent": True}
    channel, shared = inbound("in", "a/#", qos), Sink(window=50)

    @contextlib.asynccontextmanager
    async def a_gateway() -> AsyncIterator[Sink]:
        sink = Sink(window=50) if is_killed else shared
        async with open_bridge(channel, sinks={"in": sink}, **options):
            await trio.sleep(0.1)
            yield sink
            if is_killed:
                broker.drop_all()  # so that a stop acknowledges nothing

    async with a_gateway():
        await trio.sleep(1)
    for payload in numbered(1000):
        broker.deliver(Message("a/b", payload, qos))
    heard, left = list[bytes](), [1000]
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(6):
            sink = await stack.enter_async_context(a_gateway()) if is_killed or len(left) == 1 else shared
            for _ in range(2):
                heard += sink.take()
                await wait_all_tasks_blocked()
            left.append(len(broker.kept["one"].unacknowledged))
            broker.drop_all()
            if is_killed:
                await stack.aclose()
            else:
                heard += sink.take()  # nobody can be told now
                await trio.sleep(10)
    assert heard == numbered(len(heard))
    assert left == [1000, *(900 - (100 if is_killed else 150) * round_ for round_ in range(6))]


@pytest.mark.parametrize(
    ("qos", "persistent", "kept"), [(0, None, 0), (1, None, 1), (2, None, 1), (1, False, 0), (0, True, 1)]
)
async def test_the_session_is_persistent_where_that_keeps_messages(
    qos: Any, persistent: bool | None, kept: int, memory: Memory, autojump_clock: MockClock
) -> None:
    broker, options = memory
    async with open_bridge(inbound("in", "a/#", qos=qos), client_id="one", persistent=persistent, **options):
        assert len(broker.kept) == kept


async def test_a_session_that_the_broker_has_kept_or_not_is_told_to_the_readers(
    memory: Memory, autojump_clock: MockClock
) -> None:
    broker, options = memory
    sink = Sink()
    async with open_bridge(inbound("in", "a/#", qos=1), sinks={"in": sink}, client_id="one", **options):
        await wait_all_tasks_blocked()
        assert sink.forgotten == [0], "the first connection: there was none"
        broker.deliver(Message("a/b", b"1", 1))
        broker.drop_all()
        await trio.sleep(10)
        assert sink.forgotten == [0], "the broker has kept it"
    sink = Sink()
    async with open_bridge(inbound("in", "a/#", qos=1), sinks={"in": sink}, persistent=False, **options):
        await wait_all_tasks_blocked()
        broker.deliver(Message("a/b", b"2", 1))
        broker.drop_all()
        await trio.sleep(10)
        assert sink.forgotten == [0, 1]
