from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio.processes.patience import sleep_running


@pytest.mark.parametrize("seconds", [0.0, 0.5, 10.0])
async def test_it_sleeps_for_so_long(seconds: float, autojump_clock: MockClock) -> None:
    await sleep_running(seconds)
    assert trio.current_time() == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("at", "stopped", "ends"),
    [
        (0.5, 3600.0, 3609.5),  # in the first of ten steps
        (8.5, 25.0, 34.5),
        (9.5, 25.0, 34.5),  # in the last there is nothing left to wait for
    ],
)
async def test_a_stop_costs_one_step_at_most(at: float, stopped: float, ends: float, mock_clock: MockClock) -> None:
    """The clock jumps as it does for a process that is stopped and goes on: while nothing of it runs."""
    ended: list[float] = []

    async def sleep() -> None:
        await sleep_running(10)
        ended.append(trio.current_time())

    async def pass_time(seconds: float) -> None:
        mock_clock.jump(seconds)
        await wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep)
        await wait_all_tasks_blocked()
        while trio.current_time() < at:
            await pass_time(0.5)
        await pass_time(stopped)
        while not ended:
            await pass_time(0.5)
    assert ended == [pytest.approx(ends)]
