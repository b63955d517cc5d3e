"""The pump: who asks for a turn gets it, in order, and none waits for more than a batch of each of the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio.connectors.pump import Pump, Turn
from taktora_trio.executor import Executor
from taktora_trio.transport.bell import Waiter
from tests.transport.test_bell import Listener, bell_of


class Channel:
    """So many messages, of which each step moves up to `batch`."""

    def __init__(self, pump: Pump, name: str, record: list[str], *, waiting: int = 0, batch: int = 10) -> None:
        self.waiting = waiting
        self._name, self._record, self._batch = name, record, batch
        self.turn: Turn = pump.add(name, self.step)

    def step(self) -> int:
        moved = min(self.waiting, self._batch)
        self.waiting -= moved
        self._record.append(f"{self._name} {moved}")
        if self.waiting:
            self.turn.ask()
        return moved


async def test_channels_with_much_to_move_take_turns() -> None:
    record: list[str] = []
    pump = Pump()
    channels = [Channel(pump, name, record, waiting=waiting) for name, waiting in (("a", 25), ("b", 0), ("c", 15))]
    while pump.ready:
        await pump.cycle(None)
    assert record == ["a 10", "b 0", "c 10", "a 10", "c 5", "a 5"]
    record.clear()
    for channel in (channels[1], channels[0], channels[1]):
        channel.turn.ask()
    await pump.cycle(None)
    assert record == ["b 0", "a 0"]


async def test_a_cycle_ends_after_a_batch_of_messages() -> None:
    record: list[str] = []
    pump = Pump()
    for number in range(100):
        Channel(pump, str(number), record, waiting=1)
    await pump.cycle(None)
    assert len(record) == 32, "others have their turn"
    while pump.ready:
        await pump.cycle(None)
    assert len(record) == 100


async def test_it_waits_until_a_turn_is_asked_for_or_its_time_has_come(autojump_clock: MockClock) -> None:
    record: list[str] = []
    pump, executor = Pump(), Executor()
    first, second = (Channel(pump, name, record) for name in "ab")
    pump.add_to(executor, "pump")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.run)
        await wait_all_tasks_blocked()
        record.clear()
        first.turn.ask_at(trio.current_time() + 5)
        second.turn.ask_at(trio.current_time() + 3)
        second.turn.ask_at(trio.current_time() + 9)
        await trio.sleep(2)
        assert record == []
        await trio.sleep(2)
        assert record == ["b 0"]
        first.turn.ask()  # so that its time does not come any more
        await trio.sleep(20)
        assert record == ["b 0", "a 0"]
        second.turn.ask()
        await wait_all_tasks_blocked()
        assert record == ["b 0", "a 0", "b 0"]
        nursery.cancel_scope.cancel()


async def test_a_ring_of_one_channel_wakes_it_for_that_alone() -> None:
    record: list[str] = []
    listener, executor = Listener(), Executor()
    with bell_of(listener) as bell:
        pump = Pump(Waiter(bell))
        channels = [Channel(pump, name, record) for name in "abc"]
        for number, channel in enumerate(channels):
            bell.call(number, channel.turn.ask)
        pump.add_to(executor, "pump")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(executor.run)
            await wait_all_tasks_blocked()
            record.clear()
            for number in (2, 0):
                listener.notify(1 + number)
            await wait_all_tasks_blocked()
            assert record == ["c 0", "a 0"]
            channels[1].turn.ask()  # by this process, while it waits at the bell
            await wait_all_tasks_blocked()
            assert record == ["c 0", "a 0", "b 0"]
            nursery.cancel_scope.cancel()


async def test_one_that_always_has_more_to_move_keeps_nobody_from_being_heard() -> None:
    """Neither one that is rung, nor one whose time has come."""
    record: list[str] = []
    listener = Listener()
    with bell_of(listener) as bell:
        pump = Pump(Waiter(bell))
        busy, rung, late = (
            Channel(pump, name, record, waiting=waiting) for name, waiting in (("a", 10**9), ("b", 0), ("c", 0))
        )
        bell.call(1, rung.turn.ask)

        async def cycles() -> None:
            for _ in range(5):
                await pump.wait()
                await pump.cycle(None)

        await cycles()
        record.clear()
        listener.notify(2)
        late.turn.ask_at(trio.current_time() - 1)
        await cycles()
    assert record.count("b 0") == record.count("c 0") == 1
    assert busy.waiting > 0


async def test_one_that_always_has_more_to_move_lets_other_tasks_run() -> None:
    pump, executor = Pump(), Executor()
    busy = Channel(pump, "a", [], waiting=10**9)
    pump.add_to(executor, "pump")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(executor.run)
            for _ in range(10):
                await trio.lowlevel.checkpoint()
            before = busy.waiting
            await trio.lowlevel.checkpoint()
            assert 0 <= before - busy.waiting <= 2 * 64, "a batch in a turn"
            nursery.cancel_scope.cancel()


async def test_what_a_step_raises_says_of_which_channel_it_is() -> None:
    def broken() -> int:
        raise ValueError("a defect")

    step: Callable[[], int] = broken
    pump, executor = Pump(), Executor()
    pump.add("temperatures", step)
    pump.add_to(executor, "gateway.mqtt")
    with pytest.raises(ValueError, match="a defect") as caught:
        await executor.run()
    assert "in channel 'temperatures'" in caught.value.__notes__
