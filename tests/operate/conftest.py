"""Each test here has the marker `operate`, time, and a worker that its folder shares (`.ci/operate`)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TIMEOUT = 180  # seconds of one test, what its folder sets up once included


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark it at once: xdist looks at groups, and pytest at what to deselect, before a hook of ours that is later."""
    if HERE in item.path.parents:
        item.add_marker("operate")
        item.add_marker(pytest.mark.xdist_group(item.path.parent.name))
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what would begin after the time that `OPERATE_SECONDS` allows."""
    until = os.environ.get("OPERATE_UNTIL")
    if until is not None and HERE in item.path.parents and time.time() > float(until):
        pytest.skip("no time is left of OPERATE_SECONDS")
