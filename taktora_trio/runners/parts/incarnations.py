"""One gateway after another in this process, each until it is asked to leave or all is to stop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection

import trio

from taktora_trio.runners.parts.arrival import Arrival

__all__ = ["Incarnations"]


class Incarnations:
    """What the gateways of this process have in common: when the present one ends, and what is known of its start."""

    def __init__(self, stop: trio.Event | None = None) -> None:
        self.stop = trio.Event() if stop is None else stop
        self.arrival = Arrival()
        self._leave = trio.Event()  # of the present one

    def leave(self) -> None:
        """Have the present one drain and end, for another one to take its place."""
        self._leave.set()

    def watch(self, connectors: Collection[str]) -> Arrival:
        """Return what will be known of these connectors of the gateway that starts next, and of its successors."""
        self.arrival = Arrival(connectors)
        return self.arrival

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[trio.Event]:
        """Begin another one, and yield what says that it is to end."""
        self._leave = leave = trio.Event()

        async def leave_at_stop() -> None:
            await self.stop.wait()
            leave.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave_at_stop)
            yield leave
            nursery.cancel_scope.cancel()
