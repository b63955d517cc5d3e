"""Each test here has the marker `operate`, and time (`.ci/operate`)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TIMEOUT = 180  # seconds of one test, what its folder sets up once included


def pytest_itemcollected(item: pytest.Item) -> None:
    if HERE in item.path.parents:
        item.add_marker("operate")
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what would begin after the time that `OPERATE_SECONDS` allows."""
    until = os.environ.get("OPERATE_UNTIL")
    if until is not None and HERE in item.path.parents and time.time() > float(until):
        pytest.skip("no time is left of OPERATE_SECONDS")
