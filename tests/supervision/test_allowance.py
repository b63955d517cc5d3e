from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from taktora_trio.supervision.allowance import Allowance


async def test_a_burst_and_then_a_rate(autojump_clock: MockClock) -> None:
    allowance = Allowance(burst=5, rate=2)
    assert [allowance.take(count) for count in (0, 3, 2, 0, 1)] == [True, True, True, True, False]
    assert allowance.delay == 0.5
    await trio.sleep(0.5)
    assert allowance.delay == 0
    assert [allowance.take(1), allowance.take(1)] == [True, False]
    await trio.sleep(1000)
    assert [allowance.take(5), allowance.take(1)] == [True, False]


async def test_who_asks_for_too_much_loses_what_there_is(autojump_clock: MockClock) -> None:
    allowance = Allowance(burst=4, rate=1)
    assert not allowance.take(5)
    assert allowance.delay == pytest.approx(1)
    assert not allowance.take(1)


async def test_who_waits_for_each_gets_the_rate(autojump_clock: MockClock) -> None:
    allowance = Allowance(burst=1, rate=10)
    granted = 0
    while trio.current_time() < 10:
        granted += allowance.take(1)
        await trio.sleep(allowance.delay)
    assert granted == pytest.approx(100, abs=2)
