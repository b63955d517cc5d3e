"""Fixtures of the tests of Zenoh."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taktora_trio import ZenohOptions
from taktora_trio.connectors.zenoh.memory.network import MemoryNetwork
from taktora_trio.testing.zenoh.router import ZenohRouter, open_router


@pytest.fixture
async def router(tmp_path: Path) -> AsyncIterator[ZenohRouter]:
    """A running router: a process of its own."""
    async with open_router(tmp_path) as running:
        yield running


@pytest.fixture(params=["memory", pytest.param("native", marks=pytest.mark.zenoh)])
async def network(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ZenohOptions]:
    """Options by which clients come together: in memory, and by a router."""
    if request.param == "native":
        async with open_router(tmp_path) as running:
            yield ZenohOptions(connect=running.endpoint)
        return
    options = ZenohOptions(session="memory", connect=f"tcp/{uuid.uuid4().hex}:7447")
    yield options
    MemoryNetwork.forget(options.places)
