"""A minute of the soak; an hour of it is `make soak-long`."""

from __future__ import annotations

import pytest

from tests.soak.churn import KINDS, soak
from tests.soak.limits import findings, leaks

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

SECONDS, WARM_UP = 60.0, 15.0


async def test_a_minute_of_churn_leaves_nothing_behind() -> None:
    soaked = await soak(SECONDS, 1.0, 1)
    assert soaked.still == []
    for what in ("gateways killed", "plugins killed", "gateways crashed", "broker restarts", "messages refused"):
        assert soaked.counts[what] >= 2, what
    found = findings(soaked.series, WARM_UP)
    looked_at = {(finding.key[0], finding.key[2]) for finding in found}
    for kind in KINDS:  # else what is not looked at would leak nothing
        assert {(kind.name, measure) for measure in ("rss", "descriptors", "threads", "shared files")} <= looked_at
    assert [str(leak) for leak in leaks(found)] == []
