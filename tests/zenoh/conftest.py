"""Fixtures of the tests of Zenoh."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taktora_trio.testing.zenoh.router import ZenohRouter, open_router


@pytest.fixture
async def router(tmp_path: Path) -> AsyncIterator[ZenohRouter]:
    """A running router: a process of its own."""
    async with open_router(tmp_path) as running:
        yield running
