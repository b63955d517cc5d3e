"""How long a stop is waited for; what the thread does for an app is in `tests/deployment/`."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio.runners.parts.gateway_thread import _end_in_time, _Thread


@pytest.mark.parametrize("stopped", [0.0, 3600.0])  # seconds for which the whole process stands still meanwhile
async def test_the_grace_of_a_stop_is_time_that_the_process_runs(stopped: float, mock_clock: MockClock) -> None:
    async def work(stop: trio.Event) -> None:
        raise AssertionError("it is not started")

    thread, stop, patience = _Thread(work, None), trio.Event(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_in_time, thread, stop, 2.0, patience)
        stop.set()
        await wait_all_tasks_blocked()
        mock_clock.jump(0.1 + stopped)
        for _ in range(17):
            await wait_all_tasks_blocked()
            mock_clock.jump(0.1)
            assert not thread._cancel_asked
        for _ in range(3):
            await wait_all_tasks_blocked()
            mock_clock.jump(0.1)
    assert thread._cancel_asked
    assert patience.deadline - trio.current_time() == pytest.approx(0.5, abs=0.25)
