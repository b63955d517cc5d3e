"""A few crash points of two cases, the same ones each time. `make crashpoints` goes through all of them."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.crashpoints.attack import Attack, attack
from tests.crashpoints.case import Case

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]


@pytest.mark.parametrize(
    "case", [Case(victim="gateway", app="slow", store="always"), Case(victim="process", protocol="5")], ids=str
)
async def test_what_is_promised_holds_at_each_point(case: Case) -> None:
    result = await attack(Attack(case, sample=5, seed=1, limit=1.0))
    assert result.judgement.faults == []
    assert result.trouble == ()
    assert result.reached >= 3, "the points are not where it runs"
    assert result.judgement.heard == result.judgement.published > 0
    assert result.judgement.came >= result.judgement.promised > 0


@pytest.mark.parametrize("victim", ["gateway", "plugin"])
async def test_a_half_that_never_comes_to_its_point_gives_way_to_the_next(victim: Literal["gateway", "plugin"]) -> None:
    never = "host/reader.py:1:1"  # a module's docstring
    result = await attack(Attack(Case(victim=victim), sample=None, seed=1, points=(never, never), limit=0.5))
    assert result.trouble == ()
    assert (result.points, result.reached) == (2, 0)
    assert result.holds
