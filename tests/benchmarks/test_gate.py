"""The gate's table and exit: made of the costs of blocks, however they were measured."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from benchmarks.gate.__main__ import measure, rows_of
from benchmarks.gate.suites import Block, Headline, Suite
from benchmarks.gate.trees import Trees

RATE, TIME = Headline("rate", "msg/s", 1), Headline("time", "ms", 1e3)


class Made(Suite):
    """Blocks made up of a list of cost ratios, which begins anew at its end."""

    def __init__(self, headline: Headline, *ratios: float, seconds: float = 10) -> None:
        self.made = [headline]
        self._ratios = ratios
        self._seconds = seconds
        self.blocks = 0

    @property
    def headlines(self) -> Sequence[Headline]:  # type: ignore[override]
        return self.made

    async def block(self, trees: Trees, turn: int) -> Block:
        await trio.sleep(self._seconds)
        self.blocks += 1
        return {self.made[0].name: (0.001 * self._ratios[turn % len(self._ratios)], 0.001)}


NO_TREES: Trees = None  # type: ignore[assignment]


async def test_a_certain_figure_is_measured_no_further_and_an_uncertain_one_until_the_time_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    certain, uncertain = Made(RATE, 1.0, 1.01), Made(TIME, 0.4, 0.7, 1.3, 1.9, 2.6)
    costs = await measure(NO_TREES, [certain, uncertain], minutes=5)
    assert certain.blocks == 8
    assert uncertain.blocks == 22  # 8 beside the other, in 160 s; 14 alone, in 140 s
    rows, _, failed = rows_of([certain, uncertain], costs)
    assert [row[-1] for row in rows] == ["verdict", "same", "unclear"]
    assert not failed


async def test_an_interval_needs_eight_blocks_whatever_the_time(autojump_clock: trio.testing.MockClock) -> None:
    suite = Made(TIME, 1.0)
    await measure(NO_TREES, [suite], minutes=0)
    assert suite.blocks == 8


@pytest.mark.parametrize(("headline", "shown"), [(RATE, "833 msg/s"), (TIME, "1.2 ms")])
async def test_a_rate_that_falls_and_a_time_that_rises_are_both_worse(
    autojump_clock: trio.testing.MockClock, headline: Headline, shown: str
) -> None:
    suite = Made(headline, 1.2)
    rows, _, failed = rows_of([suite], await measure(NO_TREES, [suite], minutes=0))
    assert failed
    assert rows[1][1] == shown
    assert rows[1][-1] == "worse"
