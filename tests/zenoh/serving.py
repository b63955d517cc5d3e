"""A client's life over all its connections, as the bridge has it served."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio

from taktora_trio.testing.driver import Driver

__all__ = ["served"]


@contextlib.asynccontextmanager
async def served(driver: Driver) -> AsyncIterator[Driver]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.client.serve)
        yield driver
        nursery.cancel_scope.cancel()
