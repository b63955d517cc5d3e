"""The outbox, alone and in a bridge: order, what is in flight, what is published again, draining, refusals."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio import Header, Metadata
from taktora_trio.channels import Envelope
from taktora_trio.connectors.connection import ConnectFailed, Guarantee, OnDone
from taktora_trio.connectors.outbox import Outbox
from taktora_trio.connectors.pump import Pump
from taktora_trio.errors import TransportError
from taktora_trio.transport.source import Discarded
from tests.connectors.rig import FakeClient, FakeConnection, Source, numbered, open_bridge, outbound


async def test_an_app_that_goes_on_sending_does_not_keep_the_drain_going(autojump_clock: MockClock) -> None:
    source = Source()

    class Feeding(FakeConnection):
        def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
            super().publish(channel, envelope, on_done)
            source.put(b"more")

    connection = Feeding()
    outbox = Outbox("out", cast(Any, source), 64, Pump(), window=7)
    source.put(b"first")
    with trio.fail_after(10):
        await outbox.drain(connection)
    assert len(connection.published) == 7


async def test_room_that_comes_just_before_the_pump_looks_again_is_not_missed(autojump_clock: MockClock) -> None:
    """The messages that wait in shared memory were announced before, and are not announced again."""
    source, connection = Source(*numbered(4)), FakeConnection(acknowledges=False)
    pump = Pump()
    outbox = Outbox("out", cast(Any, source), 2, pump, window=64)
    with outbox.publishing(connection), trio.fail_after(1):
        await pump.cycle(None)
        assert not pump.ready
        connection.finish(0, 1)
        await pump.wait()
        await pump.cycle(None)
    assert connection.payloads == numbered(4)


@pytest.mark.parametrize("announces", [True, False])
async def test_room_asks_for_a_turn_only_where_something_may_wait(announces: bool, autojump_clock: MockClock) -> None:
    source, connection = Source(*numbered(2)), FakeConnection(acknowledges=False)
    source.announces = announces
    pump = Pump()
    outbox = Outbox("out", cast(Any, source), 2, pump, window=2)
    with outbox.publishing(connection):
        await pump.cycle(None)
        assert connection.payloads == numbered(2)
        connection.finish(0)
        assert bool(pump.ready) == (not announces)
        source.put(b"more")
        await pump.cycle(None)
        assert connection.payloads == [*numbered(2), b"more"]


# In a bridge


async def test_no_more_than_max_inflight_are_on_their_way(autojump_clock: MockClock) -> None:
    connection = FakeConnection(acknowledges=False)
    client = FakeClient(connection)
    async with open_bridge(client, outbound(), max_inflight=3) as running:
        running.sources["out"].put(*numbered(10))
        await wait_all_tasks_blocked()
        assert connection.payloads == numbered(3)
        connection.finish(1)  # what comes after an unacknowledged one still counts: order is kept by a queue
        await wait_all_tasks_blocked()
        assert connection.payloads == numbered(3)
        connection.finish(0)
        await wait_all_tasks_blocked()
        assert connection.payloads == numbered(5)
        connection.finish(2, 3, 4)
        await wait_all_tasks_blocked()
        assert connection.payloads == numbered(8)
        connection.acknowledges = True
        connection.finish(5, 6, 7)
        await wait_all_tasks_blocked()
        assert connection.payloads == numbered(10)


async def test_work_that_does_not_move_is_named(autojump_clock: MockClock) -> None:
    connection = FakeConnection(acknowledges=False)
    client = FakeClient(ConnectFailed("no route"), connection)
    async with open_bridge(client, outbound(), max_inflight=4) as running:
        source, stalled = running.sources["out"], running.bridge.stalled
        source.put(b"0")
        await wait_all_tasks_blocked()
        assert [stalled(), stalled()] == [None, None], "without a connection it can do no more than take it"
        source.queue.append(b"of which nobody was told")
        assert stalled() == "line: channel out: messages wait, and none is taken"
        source.put()
        await wait_all_tasks_blocked()
        await trio.sleep(2)
        assert [stalled(), stalled()] == [None, None], "all is published"
        source.put(*numbered(100, start=1))
        await wait_all_tasks_blocked()
        assert [stalled(), stalled()] == [None, None], "as many are on their way as may be"
        connection.acknowledges = True
        connection.finish(0, 1, 2, 3)
        await wait_all_tasks_blocked()
        assert source.queue == deque()
        source.queue.append(b"of which nobody was told")
        assert [stalled(), stalled()] == [None, "line: channel out: messages wait, and none is taken"]
        source.put()
        await wait_all_tasks_blocked()
        assert stalled() is None


async def test_a_channel_that_is_not_acknowledged_does_not_hold_up_another(autojump_clock: MockClock) -> None:
    class Deaf(FakeConnection):
        def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
            super().publish(channel, envelope, on_done if channel == "b" else lambda *_: None)

    connection = Deaf()
    client = FakeClient(connection)
    async with open_bridge(client, outbound("a"), outbound("b"), max_inflight=2) as running:
        running.sources["a"].put(*numbered(5))
        running.sources["b"].put(*numbered(5))
        await wait_all_tasks_blocked()
        assert [envelope.payload for channel, envelope in connection.published if channel == "a"] == numbered(2)
        assert [envelope.payload for channel, envelope in connection.published if channel == "b"] == numbered(5)


@pytest.mark.parametrize("acknowledges", [False, True], ids=["acknowledged later", "acknowledged at once"])
async def test_what_was_not_acknowledged_is_published_first_on_the_next_session(
    acknowledges: bool, autojump_clock: MockClock
) -> None:
    first, second = FakeConnection(acknowledges=False), FakeConnection(acknowledges=acknowledges)
    client = FakeClient(first, second)
    async with open_bridge(client, outbound()) as running:
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


async def test_what_was_acknowledged_out_of_order_is_not_published_twice(autojump_clock: MockClock) -> None:
    first, second = FakeConnection(acknowledges=False), FakeConnection(acknowledges=False)
    client = FakeClient(first, second)
    async with open_bridge(client, outbound()) as running:
        running.sources["out"].put(*numbered(4))
        await wait_all_tasks_blocked()
        first.finish(1, 3)
        first.lose()
        await trio.sleep(10)
        assert second.payloads == [b"0", b"2"]
        second.finish(0, 1)


async def test_a_window_is_taken_from_the_app_without_a_connection(autojump_clock: MockClock) -> None:
    """So it is safe from the end of the app. What is beyond it is left there, and attached to."""
    connection = FakeConnection()
    client = FakeClient(ConnectFailed("no route"), ConnectFailed("no route"), connection)
    async with open_bridge(client, outbound(window=16), max_inflight=4) as running:
        source = running.sources["out"]
        source.put(*numbered(12))
        await wait_all_tasks_blocked()
        assert list(source.queue) == []
        assert (source.acknowledged, source.unacknowledged) == ([], 12)
        source.put(*numbered(8, start=12))  # as after the app was killed, and another one has come
        await wait_all_tasks_blocked()
        assert list(source.queue) == numbered(4, start=16)
        attached = source.attached
        source.put(*numbered(4, start=20))
        await wait_all_tasks_blocked()
        assert source.attached > attached
        assert list(source.queue) == numbered(8, start=16)
        await trio.sleep(10)
        assert connection.payloads == numbered(24)
        assert source.acknowledged == list(range(1, 25))


async def test_a_window_is_taken_from_the_app_while_the_other_side_acknowledges_nothing(
    autojump_clock: MockClock,
) -> None:
    first, second = FakeConnection(acknowledges=False), FakeConnection(acknowledges=False)
    async with open_bridge(FakeClient(first, second), outbound(window=16), max_inflight=4) as running:
        source = running.sources["out"]
        source.put(*numbered(4))
        await wait_all_tasks_blocked()
        source.put(*numbered(20, start=4))
        await wait_all_tasks_blocked()
        assert first.payloads == numbered(4)
        assert list(source.queue) == numbered(8, start=16)
        first.finish(0)
        await wait_all_tasks_blocked()
        assert first.payloads == numbered(5)
        first.lose()
        await trio.sleep(10)
        assert second.payloads == numbered(4, start=1)
        second.acknowledges = True
        second.finish(0, 1, 2, 3)
        await wait_all_tasks_blocked()
        assert second.payloads == numbered(23, start=1)
        assert source.acknowledged[-1] == 24


async def test_a_drain_publishes_what_was_taken_ahead(autojump_clock: MockClock) -> None:
    connection = FakeConnection(acknowledges=False)
    async with open_bridge(FakeClient(connection), outbound(window=8), max_inflight=2, drain_timeout=60) as running:
        running.sources["out"].put(*numbered(12))
        await wait_all_tasks_blocked()
        connection.acknowledges = True
        running.stop.set()
        connection.finish(0, 1)
    assert connection.payloads == numbered(12)


async def test_what_was_taken_and_not_published_counts_as_that_at_a_stop(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO)
    connection = FakeConnection(acknowledges=False)
    async with open_bridge(FakeClient(connection), outbound(), max_inflight=2, drain_timeout=1) as running:
        running.sources["out"].put(*numbered(5))
        await wait_all_tasks_blocked()
    assert "stopped with 5 messages not acknowledged by the other side, 2 of them published" in caplog.text


async def test_the_source_hears_what_became_of_each_message(autojump_clock: MockClock) -> None:
    """A refusal, and what is acknowledged before an earlier one, are told before the count that covers them."""
    connection = FakeConnection(acknowledges=False)
    record: list[object] = []
    async with open_bridge(FakeClient(connection), outbound()) as running:
        source = running.sources["out"]
        source.settled = lambda number, refusal: record.append((number, refusal))  # type: ignore[method-assign]
        source.acknowledge = lambda header: record.append(header.sequence_number)  # type: ignore[method-assign]
        unreadable = Discarded("can't be read", 2)
        source.put(b"0", unreadable, *[Envelope(b"%d" % number, Header(number, 0), "") for number in range(3, 7)])
        await wait_all_tasks_blocked()
        connection.finish(1)  # the third, before the first
        connection.unacknowledged.pop(1)
        connection.refuse(1, "Quota exceeded")
        connection.finish(0)
        connection.finish(2, 3)
        assert record == [(2, "can't be read"), (3, ""), (4, "Quota exceeded"), 4, 5, 6]


@pytest.mark.parametrize("connected", [True, False])
async def test_the_last_message_is_one_that_can_not_be_published(connected: bool, autojump_clock: MockClock) -> None:
    """It is settled, and holds up nothing: neither a receipt for all, nor a stop."""
    connection = FakeConnection()
    client = FakeClient(*([] if connected else [ConnectFailed("no route")]), connection)
    async with open_bridge(client, outbound()) as running:
        source = running.sources["out"]
        source.put(b"0", Discarded("can't be read", 2))
        await trio.sleep(10)
        assert (source.acknowledged, source.settled_alone) == ([1, 2], [(2, "can't be read")])
    assert connection.payloads == [b"0"]


async def test_a_corrupt_envelope_is_logged_and_the_next_one_published(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    connection = FakeConnection()
    client = FakeClient(connection)
    async with open_bridge(client, outbound()) as running:
        running.sources["out"].put(b"0", TransportError("lengths that can't be true"), b"1")
        await wait_all_tasks_blocked()
    assert connection.payloads == numbered(2)
    assert "channel out: lengths that can't be true" in caplog.text


async def test_a_writer_that_sends_nothing_but_what_is_corrupt_holds_nobody_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Corrupt(Source):
        count = 0

        def receive_nowait(self) -> Envelope:
            self.count += 1
            assert self.count < 10_000
            raise Discarded("it can't be read", self.count)

    pump = Pump()
    outbox = Outbox("out", cast(Any, Corrupt()), 64, pump, window=7)
    with outbox.publishing(FakeConnection()):
        for _ in range(5):
            await pump.cycle(None)
    assert pump.ready, "it goes on"
    assert outbox.discarded == 5 * 64
    assert sum("can't be read" in record.getMessage() for record in caplog.records) < 10


async def test_a_stop_drains_what_is_queued(autojump_clock: MockClock) -> None:
    connection = FakeConnection(acknowledges=False)
    client = FakeClient(connection)
    async with open_bridge(client, outbound(), max_inflight=2, drain_timeout=60) as running:
        running.sources["out"].put(*numbered(5))
        await wait_all_tasks_blocked()
        assert connection.payloads == numbered(2)
        running.stop.set()
        await trio.sleep(1)
        connection.finish(0, 1)
        await trio.sleep(1)
        connection.finish(2, 3)
        await trio.sleep(1)
        assert connection.payloads == numbered(5)
        assert running.ended_at is None  # what is published is not yet acknowledged
        connection.finish(4)
        await wait_all_tasks_blocked()
        assert [running.ended_at, connection.closed_at] == [3, 3]


async def test_a_stop_has_a_task_for_those_channels_alone_that_have_something_left(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be thousands of them, and a few seconds for all."""
    drained = []
    drain = Outbox.drain

    async def counted(outbox: Outbox, connection: Any) -> None:
        drained.append(outbox.channel)
        await drain(outbox, connection)

    monkeypatch.setattr(Outbox, "drain", counted)
    connection = FakeConnection(acknowledges=False)
    channels = [outbound(name) for name in ("idle", "in-flight", "queued", "done")]
    async with open_bridge(FakeClient(connection), *channels, drain_timeout=60) as running:
        running.sources["in-flight"].put(b"0")
        await wait_all_tasks_blocked()
        connection.acknowledges = True
        running.sources["done"].put(b"1")
        await wait_all_tasks_blocked()
        running.sources["queued"].queue.append(b"2")  # of which nobody was told yet
        connection.finish(0)
        assert drained == []
        connection.acknowledges = False
        running.sources["in-flight"].put(b"3")
        await wait_all_tasks_blocked()
        connection.acknowledges = True
        running.stop.set()
        await wait_all_tasks_blocked()
        connection.finish(1)
    assert sorted(drained) == ["in-flight", "queued"]
    assert connection.payloads == [b"0", b"1", b"3", b"2"]


@pytest.mark.parametrize(
    ("app_is_there", "level", "end"),
    [
        (True, logging.INFO, "they wait for the next gateway, as long as the app runs"),
        (False, logging.WARNING, "they are lost"),
    ],
)
async def test_the_drain_is_bounded_and_says_what_is_left(
    app_is_there: bool,
    level: int,
    end: str,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    caplog.set_level(logging.INFO)
    connection = FakeConnection(acknowledges=False)
    client = FakeClient(connection)
    async with open_bridge(client, outbound(), drain_timeout=1.5, max_inflight=3) as running:
        running.sources["out"].put(*numbered(5))
        running.sources["out"].has_writer = app_is_there
        await trio.sleep(10)
        connection.finish(1)  # behind one that is not
        assert await running.stopped() == 11.5
    told = [(record.levelno, record.getMessage()) for record in caplog.records if "stopped with" in record.msg]
    text = f"channel out: stopped with 5 messages not acknowledged by the other side, 2 of them published: {end}"
    assert told == [(level, text)]
    assert running.health == [("Up", 0), ("Down (the gateway was stopped)", 11.5)]


async def test_what_is_stored_is_not_among_what_a_stop_says_is_lost(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    client = FakeClient(FakeConnection(acknowledges=False))
    async with open_bridge(client, outbound(), drain_timeout=1.5, max_inflight=3) as running:
        running.sources["out"].has_writer = False
        running.sources["out"].put(*numbered(5))
        running.sources["out"].stored = 2
        await trio.sleep(10)
        await running.stopped()
    assert "not acknowledged by the other side, 1 of them published: they are lost" in caplog.text


async def test_a_stop_without_a_connection_says_what_is_left(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    connection = FakeConnection(acknowledges=False)
    client = FakeClient(connection, ConnectFailed("no route"))
    async with open_bridge(client, outbound()) as running:
        running.sources["out"].has_writer = False
        running.sources["out"].put(*numbered(3))
        await trio.sleep(1)
        connection.lose()
        await trio.sleep(10)
    assert "channel out: stopped with 3 messages not acknowledged" in caplog.text


async def test_a_drain_ends_when_its_session_is_lost(autojump_clock: MockClock) -> None:
    connection = FakeConnection(acknowledges=False)
    client = FakeClient(connection)
    async with open_bridge(client, outbound(), drain_timeout=60) as running:
        running.sources["out"].put(b"0")
        await wait_all_tasks_blocked()
        running.stop.set()
        await trio.sleep(2)
        connection.lose()
        assert await running.stopped() == 2
    assert client.connects == [0]


async def test_what_the_broker_refuses_is_counted_and_shown_and_not_tried_again(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    first, second = FakeConnection(refusal="Quota exceeded"), FakeConnection()
    client = FakeClient(first, second)
    async with open_bridge(client, outbound()) as running:
        running.sources["out"].put(*numbered(5))
        await trio.sleep(1)
        assert running.sources["out"].acknowledged == [1, 2, 3, 4, 5]
        first.lose()
        await trio.sleep(10)
        assert second.published == []
    shown = "Degraded (channel out: the other side refuses messages: Quota exceeded)"
    assert running.health[:2] == [("Up", 0), (shown, 0)]
    counts = [record.args[1] for record in caplog.records if isinstance(record.args, tuple) and "refused" in record.msg]
    assert counts == [1, 2, 4]


async def test_a_connection_may_set_a_lower_limit_and_numbers_that_are_left_out_count(
    autojump_clock: MockClock,
) -> None:
    few, many = FakeConnection(acknowledges=False, most=3), FakeConnection(acknowledges=False, most=99)
    client = FakeClient(few, many)
    numbers = [1, 3, 4, 5, 6, 7, 8]  # the second was never sent
    async with open_bridge(client, outbound(), max_inflight=5, drain_timeout=0.1) as running:
        running.sources["out"].put(*[Envelope(b"%d" % number, Header(number, 0), "") for number in numbers])
        await wait_all_tasks_blocked()
        assert few.payloads == [b"1", b"3"], "closer together than 3"
        few.lose()
        await trio.sleep(10)
        assert many.payloads == [b"1", b"3", b"4", b"5"], "the gateway's own limit is lower"
        assert many.again == [b"1", b"3"]


@pytest.mark.parametrize(
    ("guarantee", "published"),
    [
        ("at most once", {b"fresh": 9, b"never": None}),
        ("at least once", {b"fresh": 9, b"never": None}),
        ("exactly once", {b"late": 1, b"fresh": 9, b"never": None}),  # it may be half done
    ],
)
async def test_what_has_expired_is_done_with_except_where_it_may_be_half_done(
    guarantee: Guarantee,
    published: dict[bytes, int | None],
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 10**15
    monkeypatch.setattr("taktora_trio.connectors.expiry.boottime_ns", lambda: now)

    def sent(number: int, payload: bytes, ago: float, expiry: int | None) -> Envelope:
        return Envelope(payload, Header(number, 0, now - int(ago * 1e9)), "", Metadata(message_expiry=expiry))

    connection = FakeConnection()
    async with open_bridge(FakeClient(connection, guarantee=guarantee), outbound()) as running:
        source = running.sources["out"]
        source.put(sent(1, b"late", 1000, 500), sent(2, b"fresh", 1.5, 10), sent(3, b"never", 1000, None))
        await wait_all_tasks_blocked()
        assert source.acknowledged == [1, 2, 3]
        given_up = [] if len(published) == 3 else [(1, "it expired before it could be published")]
        assert source.settled_alone == given_up
    assert {e.payload: e.metadata.message_expiry for _, e in connection.published if e.metadata} == published
