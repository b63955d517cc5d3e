"""The timer: never early, on the system's clock alone, and no descriptor is left."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from taktora_trio.executor import Context, Executor, Message, any_of, every, on_message, timer
from taktora_trio.executor.runtime import RunningExecutor
from taktora_trio.executor.timer import Timer, open_timer
from taktora_trio.executor.timerfd import create_timer, set_timer

LATER = 1000.0  # seconds


def timers() -> int:
    """Return how many descriptors of this process are timers."""
    found = 0
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing
            found += str(fd.readlink()) == "anon_inode:[timerfd]"
    return found


@pytest.fixture
def fd() -> Iterator[int]:
    fd = create_timer()
    yield fd
    os.close(fd)


@pytest.fixture
async def exact() -> AsyncIterator[Timer]:
    opened = open_timer()
    assert opened is not None
    yield opened
    opened.close()


# The kernel's


def is_readable(fd: int, within: float = 0) -> bool:
    return select.select([fd], [], [], within)[0] == [fd]


def test_a_timer_of_the_past_is_readable_until_it_is_set_again(fd: int) -> None:
    assert not is_readable(fd)
    for past in (-1.0, 0.0, time.monotonic()):
        set_timer(fd, past)
        assert is_readable(fd, 10)
        set_timer(fd, time.monotonic() + LATER)
        assert not is_readable(fd)


def test_a_timer_is_never_early(fd: int) -> None:
    for delay in (1e-9, 1e-6, 1e-4, 3.3e-3):
        at = time.monotonic() + delay
        set_timer(fd, at)
        assert is_readable(fd, 10)
        assert time.monotonic() >= at


def test_it_is_closed_in_programs_that_are_started(fd: int) -> None:
    assert not os.get_inheritable(fd)
    assert not os.get_blocking(fd)


def test_one_that_cannot_be_set() -> None:
    with pytest.raises(OSError, match=f"Errno {errno.EBADF}"):
        set_timer(2**30, 1.0)  # no process has so many descriptors


# Ours


@pytest.mark.parametrize("lead", [0, timer._MOST_LEAD])
async def test_it_is_never_early_however_early_it_is_set(lead: float, exact: Timer) -> None:
    for delay in [-1, 0, 1e-6, *(0.0001 * step for step in range(1, 25))]:
        exact._lead = lead
        due = trio.current_time() + delay
        await exact.sleep_until(due)
        assert trio.current_time() >= due


async def test_the_lead_follows_what_the_waits_are_late_and_is_bounded(
    exact: Timer, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = 0.05e-3
    now = 0.0
    set_to = 0.0

    def note(fd: int, at: float) -> None:
        nonlocal set_to
        set_to = at + exact._ahead

    async def wake(fd: int) -> None:
        nonlocal now
        now = set_to + late

    async def pass_by() -> None:
        nonlocal now
        now += 1e-6

    async def wait() -> float:
        due = now + 0.01
        with monkeypatch.context() as patch:
            patch.setattr(timer, "set_timer", note)
            patch.setattr(trio.lowlevel, "wait_readable", wake)
            patch.setattr(trio.lowlevel, "checkpoint", pass_by)
            patch.setattr(trio, "current_time", lambda: now)
            await exact.sleep_until(due)
        assert now >= due
        return now - due

    lateness = [await wait() for _ in range(100)]
    assert lateness[0] == pytest.approx(late)
    assert max(lateness[20:]) < 0.006e-3
    late = 5e-3  # the loop is blocked by others, for which no lead helps
    assert min([await wait() for _ in range(200)]) > 4.79e-3
    assert exact._lead == timer._MOST_LEAD
    late = 0
    lateness = [await wait() for _ in range(100)]
    assert max(lateness) < 0.006e-3
    assert exact._lead < 0.006e-3


async def test_a_wait_that_was_cancelled_leaves_the_timer_usable(exact: Timer) -> None:
    with trio.move_on_after(0.001) as scope:
        await exact.sleep_until(trio.current_time() + LATER)
    assert scope.cancelled_caught
    due = trio.current_time() + 0.001
    with trio.fail_after(10):
        await exact.sleep_until(due)
    assert trio.current_time() >= due


async def test_an_alarm_wakes_the_loop_once_each(exact: Timer) -> None:
    class Wakes(trio.abc.Instrument):
        fired: list[float]

        def after_io_wait(self, timeout: float) -> None:
            if is_readable(exact._fd):
                self.fired.append(trio.current_time())

    wakes = Wakes()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exact.serve_alarms)
        trio.lowlevel.add_instrument(wakes)
        try:
            for _ in range(3):
                wakes.fired = []
                due = trio.current_time() + 0.002
                exact.alarm(due)
                exact.alarm(due)
                await trio.sleep_until(due + 0.003)
                assert len(wakes.fired) == 1
                assert wakes.fired[0] >= due
        finally:
            trio.lowlevel.remove_instrument(wakes)
        nursery.cancel_scope.cancel()


# Which clock


class MyClock(trio.abc.Clock):
    """The system's time of day."""

    def start_clock(self) -> None: ...

    def current_time(self) -> float:
        return time.time()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - time.time()


@pytest.mark.parametrize(
    ("clock", "is_exact"),
    [
        (None, True),
        (lambda: MockClock(rate=1.0), False),
        (lambda: MockClock(autojump_threshold=0), False),
        (MyClock, False),
    ],
)
def test_it_is_for_the_clock_of_the_system_alone(clock: Callable[[], trio.abc.Clock] | None, is_exact: bool) -> None:
    ticks = []

    async def tick() -> None:
        executor = Executor()

        @executor.item(every(0.001))
        async def item(ctx: Context) -> None:
            ticks.append((trio.current_time() >= ctx.due, timers()))
            if ctx.wake.slot >= 2:  # type: ignore[union-attr]
                ctx.stop()

        await executor.run()

    trio.run(tick, clock=None if clock is None else clock())
    assert [(early, count) for early, count in ticks] == [(True, int(is_exact))] * len(ticks)
    assert len(ticks) >= 2
    assert timers() == 0


async def test_where_there_is_none_ticks_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(timer, "create_timer", refuse)
    executor, ticks = Executor(), list[float]()

    @executor.item(every(0.001))
    async def item(ctx: Context) -> None:
        ticks.append(ctx.due)
        if len(ticks) == 3:
            ctx.stop()

    await executor.run()
    assert len(ticks) == 3
    assert "no timerfd ([Errno 24] Too many open files): every(...) will be up to a millisecond late" in caplog.text


# In an executor


async def tick_on(executor: Executor, end: Callable[[RunningExecutor], object]) -> int:
    """Run ticks of two items, one of which waits for messages too, and end them; return how many timers there were."""
    send, receive = trio.open_memory_channel[str](1)
    counted = 0

    @executor.item(every(0.001))
    async def alone(ctx: Context) -> None:
        nonlocal counted
        counted = timers()

    @executor.item(any_of(every(0.001), on_message(receive)))
    async def both(ctx: Context) -> None:
        if isinstance(ctx.wake, Message):
            end(ctx.executor)
        elif ctx.wake.slot >= 3:  # type: ignore[union-attr]
            with contextlib.suppress(trio.WouldBlock):
                send.send_nowait("end")

    with trio.fail_after(10):
        await executor.run()
    return counted


async def test_each_item_has_one_and_none_is_left() -> None:
    assert await tick_on(Executor(), lambda executor: executor.stop()) == 2
    assert timers() == 0


async def test_none_is_left_by_a_failure() -> None:
    def fail(executor: RunningExecutor) -> None:
        raise KeyError("valve")

    with pytest.raises(KeyError, match="valve"):  # itself, in no group
        await tick_on(Executor(), fail)
    assert timers() == 0


async def test_none_is_left_by_a_cancellation() -> None:
    with trio.CancelScope() as scope:
        await tick_on(Executor(), lambda executor: scope.cancel())
    assert scope.cancelled_caught
    assert timers() == 0


async def test_other_triggers_need_none(autojump_clock: MockClock) -> None:
    _, receive = trio.open_memory_channel[int](0)
    executor = Executor()

    @executor.item(on_message(receive))
    async def item(ctx: Context) -> None: ...

    with trio.move_on_after(1):
        await executor.run()
    assert timers() == 0
