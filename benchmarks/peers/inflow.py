"""Receiving, as a contestant is ordered by `control.Inflow`: counted from the start, and the time of the last."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

__all__ = ["Called", "Fetched"]


class Called:
    """For a library that calls back for each message: `take` counts, and calls `came` when the last has come."""

    def __init__(self, came: Callable[[], None]) -> None:
        self.at = 0
        """When the last came, by the system's monotonic clock in ns."""
        self._came = came
        self._count = 0
        self._due = 0

    def expect(self, count: int) -> None:
        self._due = count

    def take(self) -> None:
        self._count += 1
        if self._count == self._due:
            self.at = time.monotonic_ns()
            self._came()


class Fetched:
    """For a library from which each message is fetched."""

    def __init__(self, fetch: Callable[[], Awaitable[object]]) -> None:
        self._fetch = fetch
        self._count = 0

    async def wait_for(self, count: int) -> int:
        """Fetch until so many have come, and return when the last did."""
        while self._count < count:
            await self._fetch()
            self._count += 1
        return time.monotonic_ns()
