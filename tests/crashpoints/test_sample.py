"""A few crash points of two cases, the same ones each time. `make crashpoints` goes through all of them."""

from __future__ import annotations

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
