"""Fixtures of every test: a domain of its own, a broker of its own, and a check that nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from taktora_trio.transport.domain import Domain
from tests.mosquitto import Mosquitto, open_mosquitto

hypothesis.settings.register_profile("any machine", deadline=None)  # nothing depends on how fast it is
hypothesis.settings.load_profile("any machine")
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # started by nohup: what is started here would ignore it too
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.environ["TAKTORA_STRICT"] = "1"  # an illegal transition of health raises; child processes inherit it


@pytest.fixture(scope="session", autouse=True)
def _state_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Put files that outlive a program where nobody else looks; child processes inherit the place."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests with the aiomqtt session where it can't run."""
    cannot = sys.version_info >= (3, 14)
    for item in items:
        with_what = getattr(getattr(item, "callspec", None), "params", {}).values()
        if any(re.search(r"(^|\.)aiomqtt", str(value)) for value in with_what):
            item.add_marker(pytest.mark.skipif(cannot, reason="trio-asyncio can't run with Python 3.14"))


@pytest.fixture
def domain() -> Iterator[Domain]:
    """A domain that nobody else uses; the test fails if a file of it is left at the end."""
    domain = Domain(f"test-{uuid.uuid4().hex[:12]}")
    yield domain
    left = domain.files()
    domain.remove_if_alone()
    domain.forget()  # a killed app was not done with everything
    assert left == [], "left behind in shared memory"
    assert not domain.root.exists(), "left behind: the domain's folder"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    """A running mosquitto."""
    async with open_mosquitto(tmp_path) as running:
        yield running
