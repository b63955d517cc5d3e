"""The line that says who has asked a run for what."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from taktora_trio.runners.parts.audit import log_outcome
from taktora_trio.runners.parts.requests import Answer, Asked


@pytest.fixture
def level_of_critical() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.CRITICAL)
    yield
    root.setLevel(before)


@pytest.mark.usefixtures("level_of_critical")
@pytest.mark.parametrize(("code", "event"), [(0, "audit-done"), (1, "audit-failed")])
def test_it_is_logged_at_each_level(code: int, event: str, caplog: pytest.LogCaptureFixture) -> None:
    log_outcome(Asked("stop", "gateway", "", 30, os.getpid(), os.getuid()), Answer(code, ("so it is",)))
    [record] = caplog.records
    assert (vars(record)["event"], record.getMessage().endswith(": so it is")) == (event, True)
