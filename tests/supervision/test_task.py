from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from taktora_trio.supervision.supervisor import Exit
from taktora_trio.supervision.task import as_task


async def exit_of(error: BaseException | None) -> Exit:
    """Return the end of a task that raised this, or returned."""
    ready: list[int] = []

    async def run(incarnation: int) -> None:
        assert ready == [1]  # before its first step
        assert incarnation == 7
        await trio.sleep(1)
        if error is not None:
            raise error

    return await as_task(run)(7, lambda: ready.append(1))


async def test_a_return(autojump_clock: MockClock) -> None:
    assert await exit_of(None) == Exit("exit", "it returned", failed=False)


async def test_an_exception_is_a_crash(autojump_clock: MockClock) -> None:
    error = OSError("disk")
    exit_ = await exit_of(error)
    assert exit_ == Exit("exception", "OSError: disk", failed=True, exception=error)
    assert not exit_.permanent


async def test_a_group_keeps_all_its_causes(autojump_clock: MockClock) -> None:
    error = ExceptionGroup("g", [OSError("disk"), ExceptionGroup("h", [KeyError("k"), ValueError()])])
    exit_ = await exit_of(error)
    assert exit_.exception is error
    assert exit_.description == "OSError: disk; KeyError: 'k'; ValueError"


async def test_a_group_of_one_is_that_one(autojump_clock: MockClock) -> None:
    error = OSError("disk")
    exit_ = await exit_of(ExceptionGroup("g", [ExceptionGroup("h", [error])]))
    assert exit_.exception is error
    assert exit_.description == "OSError: disk"


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit(3),
        GeneratorExit(),
        BaseExceptionGroup("g", [KeyboardInterrupt()]),
        BaseExceptionGroup("g", [OSError(), SystemExit()]),
    ],
    ids=repr,
)
async def test_what_is_nobodys_crash_passes(error: BaseException, autojump_clock: MockClock) -> None:
    with pytest.raises(type(error)) as caught:
        await exit_of(error)
    assert caught.value is error


async def test_cancellation_passes(autojump_clock: MockClock) -> None:
    with trio.move_on_after(0.5) as scope:
        await exit_of(None)
    assert scope.cancelled_caught


async def test_its_own_cancel_scopes_are_its_own(autojump_clock: MockClock) -> None:
    async def run(incarnation: int) -> None:
        with trio.move_on_after(1):
            await trio.sleep_forever()

    assert (await as_task(run)(1, lambda: None)).description == "it returned"
