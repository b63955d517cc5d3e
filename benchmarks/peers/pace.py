"""Sending on a schedule, by the same clock for every contestant in Python: a timerfd, set to the next message's time.

It is read by a thread that blocks, awaited by trio, or by asyncio. Timers of the loops themselves would not do: epoll
rounds up to whole milliseconds, and what would be measured is that. An app that sleeps has the kernel's time to wake it
up in its latency, and so has everyone here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from benchmarks import message

if TYPE_CHECKING:
    from benchmarks.peers.control import Paced

__all__ = ["Schedule", "Timer", "pace_blocking", "pace_calls", "pace_in_trio", "pace_in_turn", "pace_tasks", "tick"]

_NONBLOCK, _CLOEXEC, _ABSOLUTE = os.O_NONBLOCK, os.O_CLOEXEC, 1
_BATCH = 64  # messages that are late and go out between two turns of the loop
_SECOND = 10**9
_PERIOD = 10_000_000  # ns


class Schedule:
    """The messages of an order, each to be taken when it is due."""

    def __init__(self, order: Paced, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._order = order
        self._clock = clock
        self._left = order.count
        self.due = order.start
        """When the next one is due."""
        self.sent = 0

    @property
    def over(self) -> bool:
        return not self._left

    def take(self, most: int = _BATCH) -> Iterator[bytes]:
        """Yield what is due, each with the time at which it was, until nothing is or `most` are taken."""
        order = self._order
        while most and self._left and self.due <= (now := self._clock()):
            last = self._left == 1 or now >= order.until
            payload = message.scheduled(order.first + self.sent, self.due, last=last, length=order.length)
            self.due += order.interval
            self.sent += 1
            self._left = 0 if last else self._left - 1
            most -= 1
            yield payload


class Timer:
    """A timerfd (timerfd_create(2)); Python has it from 3.13 on."""

    def __init__(self, *, blocking: bool) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _CLOEXEC | (0 if blocking else _NONBLOCK))
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, at: int) -> None:
        """Make it readable at that time of the monotonic clock, in ns."""
        value = (ctypes.c_long * 4)(0, 0, at // _SECOND, at % _SECOND)
        if self._libc.timerfd_settime(self.fd, _ABSOLUTE, value, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)


def pace_blocking(order: Paced, publish: Callable[[bytes], object]) -> int:
    """Send from this thread, which blocks. Return how many were sent."""
    schedule = Schedule(order)
    with contextlib.closing(Timer(blocking=True)) as timer:
        while not schedule.over:
            for payload in schedule.take():
                publish(payload)
            if not schedule.over and schedule.due > time.monotonic_ns():
                timer.set(schedule.due)
                timer.read()
    return schedule.sent


async def pace_calls(order: Paced, publish: Callable[[bytes], object]) -> int:
    """Send from asyncio's loop by a call that does not wait. Return how many were sent."""
    schedule = Schedule(order)
    with _awaited() as wait_until:
        while not schedule.over:
            for payload in schedule.take():
                publish(payload)
            await _pause(schedule, wait_until)
    return schedule.sent


async def pace_in_turn(order: Paced, publish: Callable[[bytes], Awaitable[object]]) -> int:
    """Send from asyncio's loop by a call that waits for a place and no longer. Return how many were sent."""
    schedule = Schedule(order)
    with _awaited() as wait_until:
        while not schedule.over:
            for payload in schedule.take():
                await publish(payload)
            await _pause(schedule, wait_until)
    return schedule.sent


async def pace_tasks(order: Paced, at_once: int, publish: Callable[[bytes], Awaitable[object]]) -> int:
    """Send from asyncio's loop by a call that is awaited, at most `at_once` at a time, in tasks. Return how many."""
    schedule, free = Schedule(order), asyncio.Semaphore(at_once)

    async def send(payload: bytes) -> None:
        try:
            await publish(payload)
        finally:
            free.release()

    with _awaited() as wait_until:
        async with asyncio.TaskGroup() as group:
            while not schedule.over:
                await free.acquire()
                for payload in schedule.take(1):
                    group.create_task(send(payload))
                    break
                else:
                    free.release()
                    await _pause(schedule, wait_until)
    return schedule.sent


async def pace_in_trio(order: Paced, publish: Callable[[bytes], Awaitable[object]]) -> int:
    """Send from a task of trio's, by a call that waits for a place and no longer. Return how many were sent."""
    import trio  # which a contestant under asyncio may not have

    schedule = Schedule(order)
    with contextlib.closing(Timer(blocking=False)) as timer:
        while not schedule.over:
            for payload in schedule.take():
                await publish(payload)
            if schedule.over or schedule.due <= time.monotonic_ns():
                await trio.lowlevel.checkpoint()
            else:
                timer.set(schedule.due)
                await trio.lowlevel.wait_readable(timer.fd)
                timer.read()
    return schedule.sent


async def tick(count: int, send: Callable[[], Awaitable[object]]) -> list[int]:
    """Return how late a task of trio's is at each tick of 10 ms, in ns, while another one sends, as often."""
    import trio

    async def go_on() -> None:
        while True:
            due = trio.current_time() + _PERIOD / _SECOND
            await send()
            await trio.sleep_until(due)

    late = list[int]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        with contextlib.closing(Timer(blocking=False)) as timer:
            due = time.monotonic_ns()
            for _ in range(count):
                due += _PERIOD
                timer.set(due)
                await trio.lowlevel.wait_readable(timer.fd)
                timer.read()
                late.append(time.monotonic_ns() - due)
        nursery.cancel_scope.cancel()
    return late


async def _pause(schedule: Schedule, wait_until: Callable[[int], Awaitable[None]]) -> None:
    """Let the loop have a turn, and wait until the next message is due."""
    if schedule.over or schedule.due <= time.monotonic_ns():
        await asyncio.sleep(0)
    else:
        await wait_until(schedule.due)


@contextlib.contextmanager
def _awaited() -> Iterator[Callable[[int], Awaitable[None]]]:
    loop, fired = asyncio.get_running_loop(), asyncio.Event()

    def fire() -> None:
        timer.read()
        fired.set()

    async def wait_until(at: int) -> None:
        fired.clear()
        timer.set(at)
        await fired.wait()

    with contextlib.closing(Timer(blocking=False)) as timer:
        loop.add_reader(timer.fd, fire)
        try:
            yield wait_until
        finally:
            loop.remove_reader(timer.fd)
