from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import attrs
import pytest
import trio
from trio.testing import MockClock

from taktora_trio import Backoff, RestartPolicy
from taktora_trio.supervision.policy import GiveUp, Restart
from taktora_trio.supervision.task import supervise_task

BACKOFF = Backoff(initial=1, maximum=4, factor=2, jitter=0)
POLICY = RestartPolicy(backoff=BACKOFF)
Ending: TypeAlias = BaseException | None


@attrs.define
class Recorded:
    """A task that runs for a second and ends as the next of `endings` says; after the last, it awaits `stop`."""

    endings: list[Ending]
    stop: trio.Event = attrs.field(factory=trio.Event)
    starts: list[tuple[int, float]] = attrs.field(factory=list)
    crashes: list[tuple[int, Exception | None, Restart | GiveUp]] = attrs.field(factory=list)

    async def run(self, incarnation: int) -> None:
        self.starts.append((incarnation, trio.current_time()))
        if not self.endings:
            await self.stop.wait()
            return
        await trio.sleep(1)
        if (ending := self.endings.pop(0)) is not None:
            raise ending

    def on_crash(self, incarnation: int, exc: Exception | None, decision: Restart | GiveUp) -> None:
        self.crashes.append((incarnation, exc, decision))

    async def supervise(
        self, policy: RestartPolicy = POLICY, run: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        await supervise_task("worker", run or self.run, policy, stop=self.stop, on_crash=self.on_crash)

    def set_stop(self) -> None:
        self.stop.set()


async def test_a_crash_is_reported_and_the_task_started_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = ValueError("first"), ExceptionGroup("g", [OSError("second"), KeyError("third")])
    task = Recorded([first, second])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.supervise)
        await trio.sleep(100)
        task.set_stop()
    assert task.starts == [(1, 0.0), (2, 2.0), (3, 5.0)]
    assert task.crashes == [(1, first, Restart(1)), (2, second, Restart(2))]
    assert [(record.levelno, record.exc_info and record.exc_info[1]) for record in caplog.records] == [
        (logging.ERROR, first),
        (logging.ERROR, second),
    ]


async def test_a_group_of_one_is_reported_as_that_one(autojump_clock: MockClock) -> None:
    error = OSError("disk")
    task = Recorded([ExceptionGroup("g", [ExceptionGroup("h", [error])]), None])
    await task.supervise()
    assert task.crashes == [(1, error, Restart(1))]


async def test_on_failure_a_return_is_the_end(autojump_clock: MockClock) -> None:
    task = Recorded([OSError(), None])
    await task.supervise()
    assert task.starts == [(1, 0.0), (2, 2.0)]
    assert len(task.crashes) == 1
    assert trio.current_time() == 3.0


async def test_always_a_return_is_started_again_too(autojump_clock: MockClock) -> None:
    task = Recorded([None, None])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.supervise, RestartPolicy(restart="always", backoff=BACKOFF))
        await trio.sleep(50)
        task.set_stop()
    assert task.starts == [(1, 0.0), (2, 2.0), (3, 5.0)]
    assert task.crashes == [(1, None, Restart(1)), (2, None, Restart(2))]


async def test_giving_up_is_told_and_returns(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    errors = [OSError(str(number)) for number in range(3)]
    task = Recorded([*errors])
    await task.supervise(RestartPolicy(backoff=BACKOFF, intensity=2, period=60))
    give_up = GiveUp("it ended 3 times within 60 s")
    assert task.crashes == [(1, errors[0], Restart(1)), (2, errors[1], Restart(2)), (3, errors[2], give_up)]
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.ERROR, logging.CRITICAL]
    assert caplog.records[-1].getMessage() == "worker: given up: it ended 3 times within 60 s"


async def test_never(autojump_clock: MockClock) -> None:
    error = OSError()
    task = Recorded([error])
    await task.supervise(RestartPolicy(restart="never"))
    assert task.crashes == [(1, error, GiveUp("its policy is never to restart it"))]


async def test_the_backoff_starts_over_after_a_stable_period(autojump_clock: MockClock) -> None:
    task = Recorded([])
    lasting = iter([0, 0, 30, 0])

    async def run(incarnation: int) -> None:
        task.starts.append((incarnation, trio.current_time()))
        await trio.sleep(next(lasting, 1000))
        raise OSError

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.supervise, RestartPolicy(backoff=BACKOFF, period=30), run)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert task.starts == [(1, 0.0), (2, 1.0), (3, 3.0), (4, 34.0), (5, 36.0)]


@pytest.mark.parametrize("at", [0.5, 1.5])
async def test_cancellation_is_no_crash_while_running_and_while_waiting(at: float, autojump_clock: MockClock) -> None:
    task = Recorded([OSError(), OSError()])
    with trio.move_on_after(at) as scope:
        await task.supervise()
    assert scope.cancelled_caught
    assert trio.current_time() == at
    assert task.starts == [(1, 0.0)]
    assert len(task.crashes) == int(at)


@pytest.mark.parametrize("exc", [KeyboardInterrupt(), SystemExit(3), BaseExceptionGroup("g", [KeyboardInterrupt()])])
async def test_what_is_nobodys_crash_passes(exc: BaseException, autojump_clock: MockClock) -> None:
    task = Recorded([exc])
    with pytest.raises(type(exc)) as caught:
        await task.supervise()
    assert caught.value is exc
    assert task.crashes == []


@pytest.mark.parametrize(
    ("at", "ended_at", "crashes"),
    [
        (0.5, 1.0, 0),  # while it runs: its end is awaited, and a crash is no news
        (1.5, 1.5, 1),  # during the delay: at once
    ],
)
async def test_a_stop_ends_without_a_restart(
    at: float, ended_at: float, crashes: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    task = Recorded([OSError(), OSError()])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.supervise, RestartPolicy(restart="always", backoff=BACKOFF))
        await trio.sleep(at)
        task.set_stop()
    assert trio.current_time() == ended_at
    assert task.starts == [(1, 0.0)]
    assert len(task.crashes) == crashes
    assert len(caplog.records) == 1  # a crash while stopping is logged all the same


async def test_with_stop_already_set_nothing_is_started() -> None:
    task = Recorded([None])
    task.set_stop()
    await task.supervise()
    assert task.starts == []
