"""The inbox: backlog, limits, and acknowledgements when a message is safe."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio import CodecError, Inbound, Metadata
from taktora_trio.connectors.connection import Incoming
from taktora_trio.connectors.dead_letters.letter import DeadLetter
from taktora_trio.connectors.dead_letters.letters import DeadLetters
from taktora_trio.connectors.inbox import Inbox
from taktora_trio.connectors.options import MESSAGE_OVERHEAD
from taktora_trio.connectors.pump import Pump
from taktora_trio.executor import Executor
from taktora_trio.health import HealthBoard, Up
from tests.connectors.rig import AnyTopic, FakeConnection, Sink, numbered


class Kept(Incoming, frozen=True):
    """One that the other side keeps, by this number."""

    reliable: bool = True
    number: int = 0


@contextlib.asynccontextmanager
async def open_inbox(
    *sinks: Sink, limit: int = 2**20, together: bool = True, dead_letters: DeadLetters | None = None, **options: Any
) -> AsyncIterator[tuple[Inbox, list[tuple[str, float]]]]:
    """Channels `in0`, ... that all want all of `topic/`, or each its own `topic/0`, ...; with the record of health."""
    channels = [Inbound(f"in{number}", bytes, AnyTopic(), **options) for number in range(len(sinks))]
    record: list[tuple[str, float]] = []
    board = HealthBoard(["line"], on_event=lambda event: record.append((str(event.after), trio.current_time())))
    board.report("line", Up())
    record.clear()
    names = [channel.name for channel in channels]
    inbox = Inbox(
        "line",
        cast(Any, list(zip(channels, sinks, strict=True))),
        lambda topic: [] if not topic.startswith("topic/") else names if together else [f"in{topic[6:]}"],
        limit,
        board,
        pump := Pump(),
        dead_letters=dead_letters,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.expire)
        executor = Executor()
        pump.add_to(executor, "pump")
        nursery.start_soon(executor.run)
        await wait_all_tasks_blocked()
        yield inbox, record
        nursery.cancel_scope.cancel()


def numbers(connection: FakeConnection) -> list[int]:
    return [message.number for message in connection.acknowledged if isinstance(message, Kept)]


def deliver(inbox: Inbox, payloads: Sequence[bytes]) -> None:
    for payload in payloads:
        inbox.deliver(Incoming("topic/x", payload))


async def test_a_slow_reader_loses_nothing_and_keeps_the_order(autojump_clock: MockClock) -> None:
    sink = Sink(window=4)
    async with open_inbox(sink) as (inbox, health):
        deliver(inbox, numbered(50))
        arrived = []
        for start in range(50, 100):  # newer ones queue up behind the backlog, while it is being worked off
            await wait_all_tasks_blocked()
            arrived += sink.take(1)
            deliver(inbox, numbered(1, start))
        while taken := sink.take(3):
            arrived += taken
            await wait_all_tasks_blocked()
        assert arrived == numbered(100)
        assert (inbox.discarded, health) == (0, [])


async def test_after_the_backlog_messages_go_straight_into_the_channel_again(autojump_clock: MockClock) -> None:
    sink = Sink(window=2)
    async with open_inbox(sink) as (inbox, _):
        deliver(inbox, numbered(3))
        assert sink.take() == numbered(2)
        await wait_all_tasks_blocked()
        assert sink.take() == [b"2"]
        deliver(inbox, [b"3"])
        assert sink.take() == [b"3"]


async def test_a_slow_reader_does_not_hold_up_another(autojump_clock: MockClock) -> None:
    slow, fast = Sink(window=1), Sink()
    async with open_inbox(slow, fast) as (inbox, _):
        deliver(inbox, numbered(50))
        assert fast.take() == numbered(50)


async def test_beyond_the_limit_messages_are_discarded_counted_and_shown(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink(window=1)
    size = 1 + len("topic/x") + MESSAGE_OVERHEAD
    async with open_inbox(sink, limit=3 * size) as (inbox, health):
        await trio.sleep(1)
        deliver(inbox, numbered(9))  # one into the channel, three into the backlog
        assert inbox.discarded == 5
        degraded = ("Degraded (channel in0 discards inbound messages)", 1.0)
        assert health == [degraded]
        arrived = []
        for _ in range(5):
            arrived += sink.take()
            await wait_all_tasks_blocked()
        assert arrived == numbered(4)
        deliver(inbox, numbered(1, 9))
        assert sink.take() == [b"9"]
        await trio.sleep(100)
        assert health == [degraded, ("Up", 6.0)]
        # All of the limit is there again, for the backlog gave back what it took.
        deliver(inbox, numbered(4))
        assert inbox.discarded == 5
    counts = [
        record.args[1] for record in caplog.records if isinstance(record.args, tuple) and "discarded" in record.msg
    ]
    assert counts == [1, 2, 4]  # a flood does not flood the log


@pytest.mark.parametrize("window", [10, 1], ids=["with room", "through the backlog"])
async def test_an_oversized_message_is_discarded_counted_and_shown_and_the_next_one_arrives(
    window: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink(window=window)
    async with open_inbox(sink) as (inbox, health):
        deliver(inbox, [b"0", b"x" * 101, b"1", b"2"])
        arrived = []
        for _ in range(5):
            arrived += sink.take()
            await wait_all_tasks_blocked()
        assert arrived == numbered(3)
        assert inbox.discarded == 1
        await trio.sleep(100)
        assert health == [("Degraded (channel in0 discards inbound messages)", 0.0), ("Up", 5.0)]
    assert "a message on 'topic/x' is too large: 101 bytes" in caplog.text


class Picky(Sink):
    """A sink that can't encode every message."""

    def send_nowait(self, value: bytes, **more: Any) -> int:
        if value.startswith(b"bad"):
            raise CodecError("the metadata can't be encoded:\n5")
        return super().send_nowait(value, **more)


@pytest.mark.parametrize("window", [10, 1], ids=["with room", "through the backlog"])
async def test_one_that_cannot_be_carried_is_discarded_as_well(
    window: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Picky(window=window)
    async with open_inbox(sink) as (inbox, _):
        deliver(inbox, [b"0", b"bad", b"1", b"2"])
        arrived = []
        for _ in range(5):
            arrived += sink.take()
            await wait_all_tasks_blocked()
        assert arrived == numbered(3)
        assert inbox.discarded == 1
    assert "a message on 'topic/x' can't be carried: the metadata can't be encoded:\\n5" in caplog.text


async def test_a_message_that_no_channel_is_for_is_counted_and_shown(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink()
    async with open_inbox(sink) as (inbox, health):
        for number in range(7):  # as many reasons as log lines, whatever the topics are
            inbox.deliver(Incoming(f"else\x1b/{number}" if number != 3 else "x" * 65_535, b"x"))
        assert (sink.take(), inbox.discarded, inbox.strays) == ([], 0, 7)
        told = [f"else\\x1b/{number}" for number in (0, 1)] + ["x" * 200 + "..."]
        reasons = [f"messages come that no channel is for, the last on '{topic}'" for topic in told]
        assert health[-1] == (f"Degraded ({'; '.join(reasons)})", 0.0)
        assert [reason in message for reason, message in zip(reasons, caplog.messages, strict=True)] == [True] * 3
        await trio.sleep(100)
        assert health[-1] == ("Up", 5.0)


async def test_metadata_in_the_backlog_counts_with_all_that_it_takes(autojump_clock: MockClock) -> None:
    sink, limit = Sink(window=1), 4 * 2**20
    async with open_inbox(sink, limit=limit) as (inbox, _):
        tracemalloc.start()
        for number in range(50):
            properties = tuple((f"{number} {n}", "ä😀" * 3) for n in range(5_000))
            inbox.deliver(Incoming("topic/x", b"", metadata=Metadata(user_properties=properties)))
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert inbox.discarded > 40
        assert limit / 2 < taken < 1.3 * limit


async def test_topics_that_are_remembered_have_a_bound_in_bytes(autojump_clock: MockClock) -> None:
    async with open_inbox(Sink()) as (inbox, _):
        for number in range(10_000):
            inbox.deliver(Incoming(f"{number}/".ljust(number % 300, "x"), b""))
        assert sum(map(len, inbox._matching)) <= 2**20


async def test_whether_it_was_retained_goes_along(autojump_clock: MockClock) -> None:
    sink = Sink(window=1)
    async with open_inbox(sink) as (inbox, _):
        for retain in (True, False, True):
            inbox.deliver(Incoming("topic/x", b"", retained=retain))
        for _ in range(3):
            await wait_all_tasks_blocked()
            sink.take()
        assert sink.retained == [True, False, True]


# Reliable ones: acknowledged when the app is done with them, and never discarded for want of room


async def test_a_message_is_acknowledged_when_the_app_is_done_with_it_in_every_channel(
    autojump_clock: MockClock,
) -> None:
    fast, slow = Sink(), Sink(window=1)
    connection = FakeConnection()
    async with open_inbox(fast, slow) as (inbox, _):
        inbox.attach(connection)
        inbox.started()
        arrived = [Kept("topic/x", payload, number=number + 1) for number, payload in enumerate(numbered(4))]
        for message in arrived:
            inbox.deliver(message)
        assert fast.take() == numbered(4)
        for count in range(1, 5):
            slow.open(1)
            await wait_all_tasks_blocked()
            assert connection.acknowledged == arrived[: count - 1], "handed over is not done"
            slow.finish(1)
            await wait_all_tasks_blocked()
            assert connection.acknowledged == arrived[:count]
            assert (fast.acknowledged, slow.acknowledged) == (count, count)
        inbox.deliver(Kept("nobody/wants", b"", number=9))
        assert numbers(connection)[-1] == 9, "else the broker would send it for ever"


async def test_on_arrival_it_is_acknowledged_when_it_is_in_shared_memory(autojump_clock: MockClock) -> None:
    sink, connection = Sink(window=2), FakeConnection()
    async with open_inbox(sink, acknowledge="on-arrival") as (inbox, _):
        inbox.attach(connection)
        inbox.started()
        for number in (1, 2, 3):
            inbox.deliver(Kept("topic/x", b"", number=number))
        assert (numbers(connection), sink.acknowledged) == ([1, 2], 2)
        sink.take(1)
        await wait_all_tasks_blocked()
        assert (numbers(connection), sink.acknowledged) == ([1, 2, 3], 3)


@given(
    orders=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=12),
    steps=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 3)), max_size=12),
)
def test_acknowledgements_keep_each_order_and_none_waits_for_another(
    orders: list[tuple[int, int]], steps: list[tuple[int, int]]
) -> None:
    """Two channels, three orders (0 is none): after each step exactly those that may be acknowledged are."""

    async def main() -> None:
        sinks, connection = (Sink(), Sink()), FakeConnection()
        async with open_inbox(*sinks, together=False) as (inbox, _):
            inbox.attach(connection)
            inbox.started()
            arrived = [
                Kept(f"topic/{channel}", b"", order=order, number=number)
                for number, (channel, order) in enumerate(orders)
            ]
            for message in arrived:
                inbox.deliver(message)
            in_hand = [[m for m in arrived if m.topic == f"topic/{channel}"] for channel in (0, 1)]
            done: list[Kept] = []
            for channel, count in (*steps, (0, 99), (1, 99)):
                more, in_hand[channel] = in_hand[channel][:count], in_hand[channel][count:]
                done += more
                sinks[channel].finish(len(more))
                await wait_all_tasks_blocked()
                expected = {m.number for m in done if not m.order}
                for order in (1, 2):
                    for message in (m for m in arrived if m.order == order):
                        if message not in done:
                            break
                        expected.add(message.number)
                assert set(numbers(connection)) == expected
            assert len(connection.acknowledged) == len(arrived)
            for order in (1, 2):
                sent = [m.number for m in connection.acknowledged if isinstance(m, Kept) and m.order == order]
                assert sent == sorted(sent)

    trio.run(main)


async def test_what_is_written_down_is_what_leaves(autojump_clock: MockClock) -> None:
    """While an acknowledgement waits for one before it, its message counts as not acknowledged: it may come again."""
    fast, slow, connection = Sink(), Sink(), FakeConnection()
    async with open_inbox(fast, slow, together=False) as (inbox, _):
        inbox.attach(connection)
        inbox.started()
        for number, topic in enumerate(("topic/1", "topic/0", "topic/0")):
            inbox.deliver(Kept(topic, b"", order=1, number=number))
        fast.take()
        await wait_all_tasks_blocked()
        assert (numbers(connection), fast.acknowledged) == ([], 0)
        slow.take()
        await wait_all_tasks_blocked()
        assert (numbers(connection), fast.acknowledged, slow.acknowledged) == ([0, 1, 2], 2, 1)


async def test_of_two_orders_the_higher_number_is_written_down(autojump_clock: MockClock) -> None:
    sink, other, connection = Sink(), Sink(), FakeConnection()
    async with open_inbox(sink, other, together=False) as (inbox, _):
        inbox.attach(connection)
        inbox.started()
        for number, (topic, order) in enumerate([("topic/1", 1), ("topic/0", 1), ("topic/0", 2)]):
            inbox.deliver(Kept(topic, b"", order=order, number=number))
        sink.done = 2  # of these the first waits for what the other channel has in hand
        other.done = 1
        inbox.settle()
        assert (numbers(connection), sink.acknowledged) == ([2, 0, 1], 2)


async def test_what_waits_for_the_acknowledgement_of_another_has_a_bound(autojump_clock: MockClock) -> None:
    fast, slow, connection = Sink(), Sink(), FakeConnection()
    async with open_inbox(fast, slow, together=False, limit=10 * (MESSAGE_OVERHEAD + 7)) as (inbox, _):
        inbox.attach(connection)
        inbox.started()
        inbox.deliver(Kept("topic/1", b"", order=1))
        for number in range(1, 12):
            assert connection.paused == []
            inbox.deliver(Kept("topic/0", b"", order=1, number=number))
            fast.take()
            await wait_all_tasks_blocked()
        assert connection.paused == [True]
        slow.take()
        await wait_all_tasks_blocked()
        assert (connection.paused, numbers(connection)) == ([True, False], list(range(12)))


async def test_a_lie_about_what_is_done_acknowledges_nothing_that_was_not_sent(autojump_clock: MockClock) -> None:
    sink, connection = Sink(), FakeConnection()
    async with open_inbox(sink) as (inbox, _):
        inbox.attach(connection)
        inbox.started()
        inbox.deliver(Kept("topic/x", b"", number=1))
        for lie in (2**40, 0, 2**40):
            sink.done = lie
            sink.finish(0)
            await wait_all_tasks_blocked()
        inbox.deliver(Kept("topic/x", b"", number=2))
        await wait_all_tasks_blocked()
        assert set(numbers(connection)) <= {1, 2}


class Letters:
    """Dead letters on a disk that is as slow as the test wants."""

    def __init__(self) -> None:
        self.put_there: list[DeadLetter] = []
        self._waiting: list[Callable[[], None]] = []

    def put_nowait(self, letter: DeadLetter, on_stored: Callable[[], None] | None) -> None:
        self.put_there.append(letter)
        if on_stored is not None:
            self._waiting.append(on_stored)

    def store(self) -> None:
        waiting, self._waiting = self._waiting, []
        for on_stored in waiting:
            on_stored()


async def test_what_the_app_has_given_up_is_acknowledged_when_it_is_with_the_dead_letters(
    autojump_clock: MockClock,
) -> None:
    sink, connection, letters = Sink(), FakeConnection(), Letters()
    metadata = Metadata(content_type="text/plain")
    async with open_inbox(sink, dead_letters=cast(Any, letters)) as (inbox, _):
        inbox.attach(connection)
        inbox.started()
        for number in range(1, 6):
            message = Kept("topic/x", b"%d" % number, number=number, order=number % 2, metadata=metadata)
            inbox.deliver(message if number != 4 else Incoming("topic/x", b"4"))
        sink.dead = {2: ("it kills", 5), 3: ("it can't be decoded", 1), 4: ("rejected", 2)}
        sink.take()
        await wait_all_tasks_blocked()
        assert numbers(connection) == [1], "5 waits for 3, in whose order it is"
        told = [(one.channel, one.payload, one.reason, one.deliveries) for one in letters.put_there]
        assert told == [
            ("in0", b"2", "it kills", 5),
            ("in0", b"3", "it can't be decoded", 1),
            ("in0", b"4", "rejected", 2),
        ]
        assert (letters.put_there[0].topic, letters.put_there[0].metadata) == ("topic/x", metadata)
        letters.store()
        assert sorted(numbers(connection)) == [1, 2, 3, 5]


async def test_one_that_two_channels_give_up_is_two_letters_and_one_acknowledgement(autojump_clock: MockClock) -> None:
    first, second, connection, letters = Sink(), Sink(), FakeConnection(), Letters()
    async with open_inbox(first, second, dead_letters=cast(Any, letters)) as (inbox, _):
        inbox.attach(connection)
        inbox.deliver(Kept("topic/x", b"", number=1))
        for sink, expected in ((first, []), (second, [1])):
            sink.dead = {1: ("it kills", 5)}
            sink.take()
            await wait_all_tasks_blocked()
            letters.store()
            assert numbers(connection) == expected
        assert [letter.channel for letter in letters.put_there] == ["in0", "in1"]


async def test_a_message_that_is_given_goes_behind_the_others_and_is_acknowledged_to_nobody(
    autojump_clock: MockClock,
) -> None:
    sink, connection, letters = Sink(window=2), FakeConnection(), Letters()
    record: list[tuple[int, bool]] = []
    async with open_inbox(sink, dead_letters=cast(Any, letters)) as (inbox, _):
        inbox.attach(connection)
        inbox.started()
        for number in (1, 2):
            inbox.deliver(Kept("topic/x", b"%d" % number, number=number, order=1))
        for number, payload in ((3, b"3"), (4, b"4"), (5, b"x" * 101)):
            given = Incoming("topic/x", payload, reliable=True)
            inbox.give("in0", given, lambda is_done, number=number: record.append((number, is_done)), letter=number)  # type: ignore[misc]
        inbox.deliver(Kept("topic/x", b"6", number=6, order=1))
        arrived = []
        sink.dead = {4: ("it kills", 5)}
        for _ in range(5):
            arrived += sink.take(1)
            await wait_all_tasks_blocked()
        assert arrived == [b"1", b"2", b"3", b"4", b"6"]
        assert numbers(connection) == [1, 2, 6]
        assert record == [(3, True)], "the others are not on the disk yet"
        assert [(one.number, one.reason) for one in letters.put_there] == [
            (5, "is too large: 101 bytes"),
            (4, "it kills"),
        ]
        letters.store()
        assert record == [(3, True), (5, False), (4, False)]


async def test_without_dead_letters_what_is_given_up_is_discarded_and_said(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sink, connection = Sink(), FakeConnection()
    async with open_inbox(sink) as (inbox, _):
        inbox.attach(connection)
        inbox.started()
        inbox.deliver(Kept("topic/x", b"", number=1))
        sink.dead = {1: ("it\x1bkills", 5)}
        sink.take()
        await wait_all_tasks_blocked()
        assert (numbers(connection), inbox.discarded) == ([1], 1)
    assert "the app has given up a message on 'topic/x': it\\x1bkills" in caplog.text


async def test_that_it_was_sent_before_goes_along(autojump_clock: MockClock) -> None:
    sink = Sink(window=1)
    async with open_inbox(sink) as (inbox, _):
        inbox.deliver(Kept("topic/x", b"", redelivered=True, delivery_id=7))
        inbox.deliver(Kept("topic/x", b"", delivery_id=8))
        sink.take()
        await wait_all_tasks_blocked()
        assert sink.redelivered == [(True, 7), (False, 8)]


async def test_whether_anybody_keeps_it_goes_along(autojump_clock: MockClock) -> None:
    sink = Sink(window=1)
    async with open_inbox(sink) as (inbox, _):
        inbox.deliver(Incoming("topic/x", b""))
        inbox.deliver(Kept("topic/x", b""))
        sink.take()
        await wait_all_tasks_blocked()
        assert sink.reliable == [False, True]


async def test_the_end_tells_what_comes_again_from_what_is_lost(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    sink = Sink(window=3)
    async with open_inbox(sink) as (inbox, _):
        for number in range(4):
            inbox.deliver(Kept("topic/x", b"", number=number))
            inbox.deliver(Incoming("topic/x", b""))
        sink.take(1)
        await wait_all_tasks_blocked()
        sink.unread = 3  # of the 3 in shared memory 2 are not reliable; 2 of each kind wait for room
        inbox.log_undelivered()
        sink.given = {1, 2}  # the app was killed with the second in hand
        inbox.log_undelivered()
    told = [(record.levelname, record.getMessage()) for record in caplog.records if "stopped" in record.msg]
    lost = "channel in0: stopped with 4 inbound messages that the app has not had and nobody keeps: lost"
    kept = "channel in0: stopped with 3 inbound messages that the app is not done with: they are not acknowledged, and"
    again = ("INFO", f"{kept} come again if the other side keeps them")
    assert told == [("WARNING", lost), again, ("WARNING", lost.replace("4", "3")), again]


async def test_an_oversized_message_is_acknowledged_too(autojump_clock: MockClock) -> None:
    connection = FakeConnection()
    async with open_inbox(Sink()) as (inbox, _):
        inbox.attach(connection)
        inbox.started()
        inbox.deliver(Kept("topic/x", b"x" * 101, number=1))
        inbox.deliver(Kept("topic/x", b"", number=2, skipped=2**28))
        assert numbers(connection) == [1, 2]
        assert inbox.discarded == 2


async def test_with_a_full_backlog_nothing_more_is_read_and_nothing_lost(autojump_clock: MockClock) -> None:
    sink, first, second = Sink(window=1), FakeConnection(), FakeConnection()
    size = 1 + len("topic/x") + MESSAGE_OVERHEAD
    async with open_inbox(sink, limit=4 * size) as (inbox, health):
        inbox.attach(first)
        inbox.started()
        for number in range(8):  # one into the channel; what was read with the one that was too much still comes
            inbox.deliver(Kept("topic/x", b"%d" % number, number=number + 1))
        assert first.paused == [True]
        assert inbox.discarded == 0
        assert health == [("Degraded (channel in0 is not read: no more is taken from the other side)", 0.0)]
        inbox.deliver(Incoming("topic/x", b"a QoS 0 message is discarded"))
        assert inbox.discarded == 1
        inbox.attach(second)  # a new connection is no reason to read again
        assert second.paused == [], "while it starts, what it waits for is to be read"
        inbox.started()
        assert second.paused == [True]
        arrived = []
        while taken := sink.take():
            arrived += taken
            await wait_all_tasks_blocked()
        assert arrived == numbered(8)
        assert second.paused == [True, False]
        assert numbers(second) == list(range(1, 9))


async def test_another_session_is_told_to_the_readers_before_anything_comes(autojump_clock: MockClock) -> None:
    sinks = Sink(), Sink()
    async with open_inbox(*sinks) as (inbox, _):
        inbox.attach(FakeConnection())
        deliver(inbox, numbered(2))
        other = FakeConnection()
        other.resumed = False
        inbox.attach(other)
        deliver(inbox, numbered(1))
        assert [sink.forgotten for sink in sinks] == [[2], [2]]
