"""Running items: failures and what becomes of them, budgets, stopping, health; on the virtual clock."""

from __future__ import annotations

import functools
import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from taktora_trio import Backoff, ConfigError, Connecting, Degraded, Down, HealthEvent, RestartPolicy, Up
from taktora_trio.errors import Escalated, Overrun
from taktora_trio.executor import Context, Executor, Observer, every, in_thread, on_message
from taktora_trio.health import HealthEvents

NO_JITTER = Backoff(initial=1.5, maximum=100, factor=2, jitter=0)


async def nothing(ctx: Context) -> None:
    pass


class Told(Observer):
    """Notes what it is told, but for cycles."""

    def __init__(self) -> None:
        self.record: list[tuple[Any, ...]] = []

    def started(self, item: str) -> None:
        self.record.append((trio.current_time(), item, "started"))

    def stopped(self, item: str) -> None:
        self.record.append((trio.current_time(), item, "stopped"))

    def crashed(self, item: str, error: Exception, then: str) -> None:
        self.record.append((trio.current_time(), item, repr(error), then))


def transitions(events: HealthEvents) -> list[HealthEvent]:
    """Return all until the executor's end."""
    found: list[HealthEvent] = []
    while True:
        try:
            found.append(events.receive_nowait())
        except (trio.EndOfChannel, trio.WouldBlock):
            return found


# Failures


async def test_by_default_a_failure_stops_the_executor_and_is_raised(autojump_clock: MockClock) -> None:
    told, error = Told(), OSError("valve")
    executor = Executor(observers=[told])
    events = executor.health_events()
    others: list[float] = []

    @executor.item(every(1))
    async def control(ctx: Context) -> None:
        if ctx.due == 2:
            raise error

    @executor.item(every(0.75))
    async def other(ctx: Context) -> None:
        others.append(ctx.due)
        await trio.sleep(0.6)

    with pytest.raises(OSError, match="valve") as caught:
        await executor.run()
    assert caught.value is error
    assert error.__notes__ == ["in item 'control', woken by every(1)"]
    assert (error.__context__, error.__cause__) == (None, None)
    assert others == [0, 0.75, 1.5]
    assert executor.stats()["other"].count == 2  # the third was cancelled in the middle
    assert set(told.record[2:]) == {
        (2, "control", "OSError('valve')", "stops the executor"),
        (2, "control", "stopped"),
        (2, "other", "stopped"),
    }
    down = [event for event in transitions(events) if event.component == "control"][-1]
    assert (down.after, down.cause) == (Down("OSError: valve"), error)


async def test_a_group_keeps_all_its_causes(autojump_clock: MockClock) -> None:
    executor = Executor()

    @executor.item(every(1))
    async def control(ctx: Context) -> None:
        raise ExceptionGroup("g", [OSError("disk"), ExceptionGroup("h", [KeyError("k")])])

    with pytest.raises(ExceptionGroup) as caught:
        await executor.run()
    assert caught.group_contains(OSError)
    assert caught.group_contains(KeyError)
    assert executor.health("control") == Down("OSError: disk; KeyError: 'k'")


async def test_two_that_fail_at_once_are_both_raised(autojump_clock: MockClock) -> None:
    executor = Executor()

    async def fail(error: Exception, ctx: Context) -> None:
        raise error

    executor.add(functools.partial(fail, OSError("a")), every(1), name="a")
    executor.add(functools.partial(fail, KeyError("b")), every(1), name="b")
    with pytest.raises(ExceptionGroup) as caught:
        await executor.run()
    assert caught.group_contains(OSError, match="a")
    assert caught.group_contains(KeyError, match="b")


async def test_skip_goes_on_with_the_next_cycle(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    executor = Executor(observers=[told])
    events = executor.health_events()

    @executor.item(every(1), on_failure="skip")
    async def control(ctx: Context) -> None:
        if 1 <= ctx.due <= 5:
            raise OSError("valve" if ctx.due < 5 else "pump")
        if ctx.due == 7:
            ctx.stop()

    await executor.run()
    stats = executor.stats()["control"]
    assert (stats.count, stats.failures, stats.skipped) == (8, 5, 0)
    assert [entry[0] for entry in told.record if entry[-1] == "skips this cycle"] == [1, 2, 3, 4, 5]
    assert [(event.before, event.after) for event in transitions(events)] == [
        (Connecting(), Up()),
        (Up(), Degraded("its last cycle failed: OSError: valve")),
        (Degraded("its last cycle failed: OSError: valve"), Degraded("its last cycle failed: OSError: pump")),
        (Degraded("its last cycle failed: OSError: pump"), Up()),
        (Up(), Down("it has ended")),
    ]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == [f"item control: skips this cycle, failed {count} in a row" for count in (1, 2, 4)]


async def test_restart_by_policy_keeps_to_the_grid(autojump_clock: MockClock) -> None:
    told = Told()
    executor = Executor(observers=[told])
    events, starts = executor.health_events(), list[float]()

    @executor.item(every(1), on_failure=RestartPolicy(backoff=NO_JITTER, intensity=2))
    async def control(ctx: Context) -> None:
        starts.append(ctx.due)
        if ctx.due in (1, 4):
            raise OSError("valve")
        if ctx.due == 9:
            ctx.stop()

    await executor.run()
    # 1.5 s and 3 s out of service; the slots in that time are skipped.
    assert starts == [0, 1, 3, 4, 7, 8, 9]
    assert executor.stats()["control"].skipped == 3
    assert told.record == [
        (0, "control", "started"),
        (1, "control", "OSError('valve')", "starts again in 1.50 s"),
        (2.5, "control", "started"),
        (4, "control", "OSError('valve')", "starts again in 3.00 s"),
        (7, "control", "started"),
        (9, "control", "stopped"),
    ]
    found = transitions(events)
    kinds = [type(event.after) for event in found]
    assert kinds == [Up, Down, Connecting, Up, Down, Connecting, Up, Down]
    assert isinstance(found[1].after, Down)
    assert found[1].after.failure is not None
    assert (found[1].after.failure.incarnation, found[1].after.failure.delay) == (1, 1.5)
    assert isinstance(found[1].cause, OSError)


async def test_one_that_fails_too_often_is_given_up_and_can_be_revived(autojump_clock: MockClock) -> None:
    told = Told()
    executor = Executor(observers=[told])
    broken, others = True, list[float]()

    @executor.item(every(1), on_failure=RestartPolicy(backoff=NO_JITTER, intensity=0))
    async def control(ctx: Context) -> None:
        if broken:
            raise OSError("valve")

    @executor.item(every(0.4))
    async def other(ctx: Context) -> None:
        nonlocal broken
        others.append(ctx.due)
        if len(others) == 14:
            assert isinstance(executor.health("control"), Down)
            broken = False
            assert executor.revive("control")
        if len(others) == 22:
            assert executor.health("control") == Up()
            assert not executor.revive("control")
            ctx.stop()

    await executor.run()
    assert others == pytest.approx([0.4 * number for number in range(22)])  # until 8.4
    assert (0, "control", "OSError('valve')", "given up: it ended once within 60 s of uptime") in told.record
    assert executor.stats()["control"].count == 1 + 3  # at 6, 7 and 8


async def test_or_it_escalates(autojump_clock: MockClock) -> None:
    executor = Executor()

    @executor.item(every(1), on_failure=RestartPolicy(intensity=0, on_exhausted="escalate"))
    async def control(ctx: Context) -> None:
        raise OSError("valve")

    with pytest.raises(Escalated, match=r"item control has failed too often.*valve"):
        await executor.run()


async def test_a_cancellation_is_no_failure(autojump_clock: MockClock) -> None:
    told = Told()
    executor = Executor(observers=[told])

    @executor.item(every(1), on_failure="skip")
    async def control(ctx: Context) -> None:
        with trio.move_on_after(0.5):
            await trio.sleep_forever()  # its own scope is its own business
        await trio.sleep_forever()

    with trio.move_on_after(3) as scope:
        await executor.run()
    assert scope.cancelled_caught
    assert told.record == [(0, "control", "started"), (3, "control", "stopped")]
    assert executor.stats()["control"].count == 0


async def test_an_interrupt_passes() -> None:
    executor = Executor()

    @executor.item(every(1), on_failure="skip")
    async def control(ctx: Context) -> None:
        raise KeyboardInterrupt

    with pytest.raises(BaseExceptionGroup) as caught:
        await executor.run()
    assert caught.group_contains(KeyboardInterrupt)


# Budgets


async def test_an_overrun_is_counted_and_told(autojump_clock: MockClock) -> None:
    overruns: list[tuple[str, float]] = []

    class Watch(Observer):
        def overrun(self, item: str, cycle: Any) -> None:
            overruns.append((item, cycle.duration))

    executor = Executor(observers=[Watch()])

    @executor.item(every(1), budget=0.25)
    async def control(ctx: Context) -> None:
        await trio.sleep(0.125 * ctx.due)
        if ctx.due == 4:
            ctx.stop()

    await executor.run()
    assert overruns == [("control", 0.375), ("control", 0.5)]
    stats = executor.stats()["control"]
    assert (stats.count, stats.overruns, stats.failures) == (5, 2, 0)


async def test_by_choice_an_overrun_is_a_failure(autojump_clock: MockClock) -> None:
    executor = Executor()

    @executor.item(every(1), budget=0.25, overrun_fails=True)
    async def control(ctx: Context) -> None:
        await trio.sleep(0.5)

    with pytest.raises(Overrun, match=r"control took 0\.5 s of its budget of 0\.25 s"):
        await executor.run()
    assert executor.stats()["control"].failures == 1


# Stopping


async def test_a_cycle_that_runs_may_end_within_the_grace(autojump_clock: MockClock) -> None:
    executor, ended = Executor(stop_grace=2), list[str]()

    @executor.item(every(10), on_failure=RestartPolicy(restart="always"))
    async def quick(ctx: Context) -> None:
        await trio.sleep(2.5)
        ended.append("quick")

    @executor.item(every(10))
    async def slow(ctx: Context) -> None:
        await trio.sleep(3.5)
        ended.append("slow")

    @executor.item(every(1))
    async def stop(ctx: Context) -> None:
        if ctx.due == 1:
            ctx.stop()
            ended.append("stop")  # its own cycle, too

    await executor.run()
    assert trio.current_time() == 3
    assert ended == ["stop", "quick"]


async def test_a_message_that_nobody_took_stays_in_its_channel(autojump_clock: MockClock) -> None:
    send, receive = trio.open_memory_channel[int](10)
    executor = Executor()

    @executor.item(on_message(receive))
    async def follow(ctx: Context[int]) -> None:
        if ctx.message == 1:
            ctx.stop()

    for number in range(4):
        send.send_nowait(number)
    await executor.run()
    assert receive.receive_nowait() == 2


async def test_stopped_between_two_messages_none_is_lost(autojump_clock: MockClock) -> None:
    """Stopped from outside, at each possible moment."""
    for turns in range(60):
        send, receive = trio.open_memory_channel[int](20)
        executor, seen = Executor(), list[int]()

        @executor.item(on_message(_Waitable(receive)))
        async def follow(ctx: Context[int], seen: list[int] = seen) -> None:
            seen.append(ctx.message)
            await trio.lowlevel.checkpoint()

        for number in range(20):
            send.send_nowait(number)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(executor.run)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            executor.stop() if turns % 2 else nursery.cancel_scope.cancel()
        left = 20 - receive.statistics().current_buffer_used
        assert seen == list(range(left))


class _Waitable:
    """A memory channel that can be waited for without receiving, as a `ChannelReader` can."""

    is_closed = is_behind = False

    def __init__(self, channel: trio.MemoryReceiveChannel[int]) -> None:
        self.receive_nowait = channel.receive_nowait

    async def wait(self) -> None:
        await trio.sleep_forever()


async def test_items_take_turns_with_other_tasks(autojump_clock: MockClock) -> None:
    """One whose trigger always has something does not keep the loop to itself, and can be cancelled."""
    send, receive = trio.open_memory_channel[int](10_000)
    executor, turns = Executor(), 0
    executor.add(nothing, on_message(receive))
    for number in range(10_000):
        send.send_nowait(number)

    async def other() -> None:
        nonlocal turns
        for _ in range(50):
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.run)
        nursery.start_soon(other)
        while turns < 50:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert executor.stats()["nothing"].count < 1000


async def test_run_is_a_service(autojump_clock: MockClock) -> None:
    executor = Executor()
    executor.add(nothing, every(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(executor.run)
        await trio.sleep(2.5)
        executor.stop()
        executor.stop()  # a second time means nothing
    assert executor.stats()["nothing"].count == 3


# What an item is told, and may use


async def test_the_context(autojump_clock: MockClock) -> None:
    events: list[tuple[str, str, dict[str, Any]]] = []

    class Hear(Observer):
        def event(self, item: str, name: str, fields: Any) -> None:
            events.append((item, name, dict(fields)))

    executor = Executor(observers=[Hear()])
    trigger = every(1)

    @executor.item(trigger, name="the control loop")
    async def control(ctx: Context) -> None:
        assert ctx.item == "the control loop"
        assert ctx.wake.trigger is trigger
        assert ctx.executor is executor
        assert ctx.executor.stats()["the control loop"].count == ctx.due
        ctx.observe("valve", opened=ctx.due)
        if ctx.due == 1:
            ctx.stop()

    await executor.run()
    assert events == [("the control loop", "valve", {"opened": 0}), ("the control loop", "valve", {"opened": 1})]


# Bad input


def sync(ctx: Context) -> None:
    pass


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"item": sync}, r"no async function: use in_thread"),
        ({"item": None, "name": "x"}, "it can't be called"),
        ({"item": functools.partial(nothing)}, r"has no name of its own: add it with name="),
        ({"trigger": 0.01}, r"0\.01 is no trigger"),
        ({"budget": 0}, "budget is 0"),
        ({"budget": float("nan")}, "budget is nan"),
        ({"overrun_fails": True}, "overrun_fails needs a budget"),
        ({"on_failure": "restart"}, "on_failure is 'restart'; use 'stop', 'skip' or a RestartPolicy"),
        ({"name": ""}, "no name of its own"),
    ],
)
def test_what_cannot_be_added(arguments: dict[str, Any], says: str) -> None:
    executor = Executor()
    with pytest.raises(ConfigError, match=says):
        executor.add(**{"item": nothing, "trigger": every(1), **arguments})
    assert executor.stats() == {}


class Machine:
    async def control(self, ctx: Context) -> None:
        pass


def test_an_item_is_added_once() -> None:
    executor, machine = Executor(), Machine()
    executor.add(machine.control, every(1))
    executor.add(Machine().control, every(1), name="another machine")
    with pytest.raises(ConfigError, match="an item named 'control' was added already"):
        executor.add(nothing, every(1), name="control")
    with pytest.raises(ConfigError, match=r"'again' is 'control', which was added already: .* use any_of"):
        executor.add(machine.control, every(1), name="again")
    assert list(executor.stats()) == ["control", "another machine"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"window": 0}, "window is 0"),
        ({"stop_grace": -1}, "stop_grace is -1"),
        ({"observers": [Observer]}, "is no observer"),
    ],
)
def test_what_makes_no_executor(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Executor(**arguments)


async def test_an_executor_runs_once_and_not_without_items(autojump_clock: MockClock) -> None:
    executor = Executor()
    with pytest.raises(ConfigError, match="no items"):
        await executor.run()
    executor.add(nothing, every(1))
    with trio.move_on_after(1):
        await executor.run()
    with pytest.raises(ConfigError, match="make a new one"):
        await executor.run()
    with pytest.raises(ConfigError, match="runs already"):
        executor.add(in_thread(print), every(1))
    with pytest.raises(ConfigError, match="there is no item 'valve'; there are nothing"):
        executor.health("valve")
