"""Each trigger by itself and in combination, on the virtual clock: exact times."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from taktora_trio import Backoff, CodecError, ConfigError, Degraded, Down, RestartPolicy, Up
from taktora_trio.executor import (
    Context,
    Executor,
    Late,
    Message,
    Ready,
    Tick,
    Transition,
    any_of,
    every,
    on_deadline,
    on_health,
    on_message,
    when,
)
from taktora_trio.health import HealthBoard, HealthEvents


class Recorder:
    """An item that notes when it starts and why, and may take some time."""

    def __init__(self, *durations: float, cycles: float = math.inf) -> None:
        self.record: list[tuple[Any, ...]] = []
        self._durations = list(durations)
        self._cycles = cycles

    async def item(self, ctx: Context[Any]) -> None:
        why: tuple[Any, ...]
        match ctx.wake:
            case Tick(slot=slot, skipped=skipped):
                why = ("tick", slot, skipped)
            case Message(value=value):
                why = ("message", value)
            case Late(since=since):
                why = ("late", since)
            case Ready():
                why = ("ready",)
            case Transition(event=event):
                why = (event.component, str(event.after))
        self.record.append((trio.current_time(), *why))
        await trio.sleep(self._durations.pop(0) if self._durations else 0)
        if len(self.record) >= self._cycles:
            ctx.stop()


async def run_for(executor: Executor, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await executor.run()


# every


async def test_every_follows_the_grid_and_skips_what_it_misses(autojump_clock: MockClock) -> None:
    recorder, executor = Recorder(0, 2.5, 0.9, 1, 0), Executor()
    executor.add(recorder.item, every(1))
    await run_for(executor, 6.5)
    assert recorder.record == [
        (0, "tick", 0, 0),
        (1, "tick", 1, 0),  # until 3.5
        (4, "tick", 4, 2),  # until 4.9
        (5, "tick", 5, 0),  # until 6, exactly when the next is due: that one is not missed
        (6, "tick", 6, 0),
    ]
    assert executor.stats()["item"].skipped == 2


async def test_an_hour_does_not_drift(autojump_clock: MockClock) -> None:
    executor, starts = Executor(), list[float]()

    @executor.item(every(0.7))
    async def control(ctx: Context) -> None:
        assert ctx.due == trio.current_time()
        starts.append(ctx.due)
        await trio.sleep(0.1 * (len(starts) % 5))
        if ctx.due >= 3600:
            ctx.stop()

    await executor.run()
    assert starts == [0.7 * slot for slot in range(5144)]
    stats = executor.stats()["control"]
    assert (stats.count, stats.skipped) == (5144, 0)
    assert stats.lateness is not None
    assert stats.lateness.maximum == 0
    assert stats.duration is not None
    assert stats.duration.maximum == pytest.approx(0.4)


async def test_a_slot_for_which_it_is_woken_late_runs_late(autojump_clock: MockClock) -> None:
    recorder, executor = Recorder(cycles=4), Executor()
    executor.add(recorder.item, every(1))

    async def stall() -> None:
        await trio.sleep(0.5)
        autojump_clock.jump(1.75)  # the loop stands still, as if somebody had blocked it until 2.25

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stall)
        await executor.run()
    assert recorder.record == [(0, "tick", 0, 0), (2.25, "tick", 1, 0), (3, "tick", 3, 1), (4, "tick", 4, 0)]
    stats = executor.stats()["item"]
    assert stats.skipped == 1
    assert stats.lateness is not None
    assert stats.lateness.maximum == 1.25
    assert stats.jitter is not None
    assert stats.jitter.maximum == 1.25  # and back again


async def test_items_share_one_origin(autojump_clock: MockClock) -> None:
    fast, slow, executor = Recorder(), Recorder(0.05), Executor()
    await trio.sleep(0.123)
    executor.add(fast.item, every(0.5), name="fast")
    executor.add(slow.item, every(1.0), name="slow")
    await run_for(executor, 2.1)
    starts = [at for at, *_ in fast.record]
    assert [at for at, *_ in slow.record] == starts[::2]


# on_message


async def test_each_message_is_handed_over_in_order_and_none_is_lost(autojump_clock: MockClock) -> None:
    send, receive = trio.open_memory_channel[int](100)
    recorder, executor = Recorder(0, 3, 0), Executor()
    executor.add(recorder.item, on_message(receive))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.run)
        for number in range(6):
            await trio.sleep(1)
            await send.send(number)
        send.close()
    # The end of the channel has ended the item, and with it the executor.
    assert recorder.record == [
        (1, "message", 0),
        (2, "message", 1),  # until 5
        (5, "message", 2),
        (5, "message", 3),
        (5, "message", 4),
        (6, "message", 5),
    ]


async def test_what_waits_for_a_busy_item_waits_in_the_channel(autojump_clock: MockClock) -> None:
    send, receive = trio.open_memory_channel[int](100)
    recorder, executor = Recorder(10), Executor()
    executor.add(recorder.item, on_message(receive))
    for number in range(5):
        send.send_nowait(number)
    await run_for(executor, 5)
    assert recorder.record == [(0, "message", 0)]
    assert [receive.receive_nowait() for _ in range(4)] == [1, 2, 3, 4]


class Reader:
    """A reader like a `ChannelReader`: it can be waited for without receiving, and may fail to decode."""

    def __init__(self, *messages: int | Exception) -> None:
        self.messages = list(messages)
        self.is_closed = False
        self.news = trio.Event()

    @property
    def is_behind(self) -> bool:
        return bool(self.messages)

    def put(self, message: int) -> None:
        self.messages.append(message)
        self.news.set()

    def receive_nowait(self) -> int:
        if self.is_closed:
            raise trio.ClosedResourceError
        if not self.messages:
            raise trio.WouldBlock
        message = self.messages.pop(0)
        if isinstance(message, Exception):
            raise message
        return message

    async def wait(self) -> None:
        await self.news.wait()
        self.news = trio.Event()


async def test_a_message_that_cannot_be_decoded_is_raised_where_the_item_looks_at_it(autojump_clock: MockClock) -> None:
    reader, executor, seen = Reader(1, CodecError("no JSON", topic="t"), 3), Executor(), list[object]()

    @executor.item(on_message(reader))
    async def follow(ctx: Context[int]) -> None:
        try:
            seen.append(ctx.message)
        except CodecError as exc:
            seen.append(str(exc))

    await run_for(executor, 1)
    assert seen == [1, "no JSON", 3]


async def test_a_reader_that_is_closed_under_its_item_is_a_failure(autojump_clock: MockClock) -> None:
    reader, executor = Reader(), Executor()
    executor.add(Recorder().item, on_message(reader), on_failure="skip")  # which would fail again at once

    @executor.item(every(1))
    async def close(ctx: Context) -> None:
        if trio.current_time() == 3:
            reader.is_closed = True
            reader.news.set()

    with pytest.raises(trio.ClosedResourceError):
        await executor.run()
    assert trio.current_time() == 3


async def test_there_is_no_message_where_something_else_woke_it(autojump_clock: MockClock) -> None:
    executor = Executor()

    @executor.item(every(1))
    async def control(ctx: Context) -> None:
        with pytest.raises(LookupError, match=r"no transition: 'control' was woken by every\(1\)"):
            _ = ctx.transition
        _ = ctx.message

    with pytest.raises(LookupError, match=r"'control' was woken by every\(1\)"):
        await executor.run()


# on_deadline


@pytest.mark.parametrize("together", [True, False], ids=["any_of", "another item"])
async def test_a_deadline_wakes_once_for_each_silence(together: bool, autojump_clock: MockClock) -> None:
    reader, executor, recorder = Reader(), Executor(), Recorder()
    if together:
        executor.add(recorder.item, any_of(on_message(reader), on_deadline(reader, 2)))
    else:
        executor.add(Recorder().item, on_message(reader), name="receiver")
        executor.add(recorder.item, on_deadline(reader, 2))

    async def send() -> None:
        for at in (5, 6, 7.5, 12):
            await trio.sleep_until(at)
            reader.put(at)  # type: ignore[arg-type]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await run_for(executor, 20)
    late = [entry for entry in recorder.record if entry[1] == "late"]
    assert late == [(2, "late", 0), (9.5, "late", 7.5), (14, "late", 12)]
    assert len(recorder.record) == (7 if together else 3)


async def test_what_waits_for_a_busy_item_is_not_late(autojump_clock: MockClock) -> None:
    reader, executor, recorder = Reader(0, 1), Executor(), Recorder()
    executor.add(Recorder(5.5).item, on_message(reader), name="receiver")
    executor.add(recorder.item, on_deadline(reader, 2))
    await run_for(executor, 20)
    assert recorder.record == [(7.5, "late", 5.5)]


async def test_a_deadline_needs_somebody_who_receives(autojump_clock: MockClock) -> None:
    executor = Executor()
    executor.add(Recorder().item, on_deadline(Reader(), 2), name="watch")
    with pytest.raises(ConfigError, match=r"item 'watch': on_deadline watches .* add one with on_message"):
        await executor.run()


# on_health


class Host:
    def __init__(self) -> None:
        self.board = HealthBoard(["mqtt"])

    def health_events(self) -> HealthEvents:
        return self.board.events()


async def test_every_transition_since_the_item_was_added(autojump_clock: MockClock) -> None:
    host, executor, everything, bad = Host(), Executor(), Recorder(), Recorder()
    executor.add(everything.item, on_health(host), name="everything")
    executor.add(bad.item, on_health(host, Down, Degraded), name="bad")
    host.board.report("mqtt", Up())  # before it runs
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.run)
        await trio.sleep(1)
        host.board.report("mqtt", Down("cable"))
        await trio.sleep(1)
        host.board.close()  # which ends both items, and with them the executor
    assert everything.record == [(0, "mqtt", "Up"), (1, "mqtt", "Down (cable)")]
    assert bad.record == [(1, "mqtt", "Down (cable)")]


async def test_the_health_of_an_executors_own_items(autojump_clock: MockClock) -> None:
    executor, recorder = Executor(), Recorder()

    @executor.item(every(1), on_failure="skip")
    async def control(ctx: Context) -> None:
        if trio.current_time() == 2:
            raise OSError("valve")

    executor.add(recorder.item, on_health(executor, Degraded), name="alarm")
    await run_for(executor, 4.5)
    assert recorder.record == [(2, "control", "Degraded (its last cycle failed: OSError: valve)")]
    assert executor.health("control") == Down("it has ended")


# when


class Announced:
    """Something that can be waited for: `wait` returns once for each `announce`."""

    def __init__(self) -> None:
        self.waiting, self.calls, self.cancelled = 0, 0, 0
        self._news = trio.Event()

    def announce(self) -> None:
        self.waiting += 1
        self._news.set()

    async def wait(self) -> object:
        self.calls += 1
        try:
            while not self.waiting:
                self._news = trio.Event()
                await self._news.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        self.waiting -= 1
        return "not given"


async def test_when_wakes_each_time_that_the_function_returns(autojump_clock: MockClock) -> None:
    pump, executor, recorder = Announced(), Executor(), Recorder(0, 2.5, 0)
    executor.add(recorder.item, when(pump.wait))

    async def announce() -> None:
        for at in (1, 2, 3, 4):
            await trio.sleep_until(at)
            pump.announce()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(announce)
        await run_for(executor, 10)
    # It is not called while the item is busy (from 2 to 4.5); what came meanwhile waits where it is.
    assert recorder.record == [(1, "ready"), (2, "ready"), (4.5, "ready"), (4.5, "ready")]
    assert (pump.calls, pump.cancelled) == (5, 1)  # the fifth is cancelled with the executor
    assert executor.stats()["item"].count == 4
    assert executor.stats()["item"].lateness is None


async def test_when_that_returns_at_once_lets_others_run(autojump_clock: MockClock) -> None:
    executor, others = Executor(), list[float]()

    async def at_once() -> None:
        pass

    cycles = Recorder(cycles=100)
    executor.add(cycles.item, when(at_once))

    @executor.item(every(1))
    async def other(ctx: Context) -> None:
        others.append(len(cycles.record))

    await executor.run()
    assert len(cycles.record) == 100
    assert others == [others[0]]
    assert others[0] <= 1


async def test_when_stops_with_the_executor_while_it_waits(autojump_clock: MockClock) -> None:
    pump, executor = Announced(), Executor(stop_grace=60)
    executor.add(Recorder().item, when(pump.wait))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.run)
        await trio.sleep(3)
        executor.stop()
    assert trio.current_time() == 3
    assert pump.cancelled == 1


async def test_when_among_others_is_called_again(autojump_clock: MockClock) -> None:
    pump, executor, recorder = Announced(), Executor(), Recorder()
    executor.add(recorder.item, any_of(when(pump.wait), every(2)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, executor, 4.5)
        await trio.sleep(3)
        pump.announce()
    assert recorder.record == [(0, "tick", 0, 0), (2, "tick", 1, 0), (3, "ready"), (4, "tick", 2, 0)]


async def test_a_failure_of_when_is_the_items(autojump_clock: MockClock) -> None:
    executor, recorder, fails = Executor(), Recorder(), [True, False]

    async def wait() -> None:
        await trio.sleep(1)
        if fails and fails.pop(0):
            raise OSError("pump")

    policy = RestartPolicy(backoff=Backoff(initial=5, jitter=0))
    executor.add(recorder.item, when(wait), on_failure=policy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, executor, 8.5)
        await trio.sleep(3)
        assert isinstance(executor.health("item"), Down)
    assert recorder.record == [(7, "ready"), (8, "ready")]

    again = Executor()
    fails[:] = [True]
    again.add(recorder.item, when(wait), name="pump")
    with pytest.raises(OSError, match="pump"):
        await again.run()


# any_of


async def test_a_slot_that_comes_while_it_is_busy_otherwise_runs_late(autojump_clock: MockClock) -> None:
    reader, executor = Reader(), Executor()
    recorder = Recorder(0, 0, 0.5, 2.5)  # the messages take 0.5 and 2.5
    executor.add(recorder.item, any_of(every(1), on_message(reader)))

    async def send() -> None:
        await trio.sleep(1.75)
        reader.put(1)
        await trio.sleep(1)
        reader.put(2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await run_for(executor, 4)
    assert recorder.record[:4] == [(0, "tick", 0, 0), (1, "tick", 1, 0), (1.75, "message", 1), (2.25, "tick", 2, 0)]


async def test_they_take_turns(autojump_clock: MockClock) -> None:
    left, right, executor, recorder = Reader(*range(3)), Reader(*range(10, 13)), Executor(), Recorder()
    executor.add(recorder.item, any_of(on_message(left), on_message(right)))
    await run_for(executor, 1)
    assert [value for _, _, value in recorder.record] == [0, 10, 1, 11, 2, 12]


async def test_several_that_come_while_it_waits_are_all_there(autojump_clock: MockClock) -> None:
    one, two = trio.open_memory_channel[int](1), trio.open_memory_channel[int](1)
    executor, recorder = Executor(), Recorder()
    executor.add(recorder.item, any_of(on_message(one[1]), on_message(two[1]), every(10)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, executor, 5)
        await trio.sleep(1)
        one[0].send_nowait(1)
        two[0].send_nowait(2)
    assert recorder.record[0] == (0, "tick", 0, 0)
    assert sorted(recorder.record[1:]) == [(1, "message", 1), (1, "message", 2)]


# Bad input


@pytest.mark.parametrize("period", [0, -1, 0.0, math.inf, math.nan, True, "1"])
def test_a_period_that_cannot_be(period: Any) -> None:
    with pytest.raises(ConfigError, match="the period must be more than 0 seconds"):
        every(period)


@pytest.mark.parametrize("within", [0, -1, math.inf, math.nan, None])
def test_a_deadline_that_cannot_be(within: Any) -> None:
    with pytest.raises(ConfigError, match=r"within is .* more than 0 seconds"):
        on_deadline(Reader(), within)


def closed_memory_channel() -> object:
    _, receive = trio.open_memory_channel[int](0)
    receive.close()
    return receive


def closed_reader() -> object:
    reader = Reader()
    reader.is_closed = True
    return reader


@pytest.mark.parametrize("make", [closed_memory_channel, closed_reader])
def test_a_closed_reader(make: Any) -> None:
    with pytest.raises(ConfigError, match="is closed"):
        on_message(make())
    with pytest.raises(ConfigError, match="is closed"):
        on_deadline(make(), 1)


async def test_a_reader_that_is_closed_before_it_is_added_or_run(autojump_clock: MockClock) -> None:
    reader, executor = Reader(), Executor()
    trigger = on_message(reader)
    executor.add(Recorder().item, trigger)
    reader.is_closed = True
    with pytest.raises(ConfigError, match="is closed"):
        Executor().add(Recorder().item, trigger)
    with pytest.raises(ConfigError, match="is closed"):
        await executor.run()


def test_a_reader_has_one_receiver() -> None:
    reader, executor = Reader(), Executor()
    executor.add(Recorder().item, on_message(reader), name="first")
    with pytest.raises(ConfigError, match=r"'second'.* is received by 'first' already"):
        executor.add(Recorder().item, on_message(reader), name="second")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: on_message(None), "is no reader"),  # type: ignore[arg-type]
        (lambda: on_health(None), r"has no health_events\(\)"),  # type: ignore[arg-type]
        (lambda: on_health(Host(), ValueError), "no kind of health"),  # type: ignore[arg-type]
        (lambda: when(None), "None can't be called; give it an async function"),  # type: ignore[arg-type]
        (lambda: any_of(), "at least one"),
        (lambda: any_of(every(1), 1), "1 is no trigger"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_trigger(make: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()
