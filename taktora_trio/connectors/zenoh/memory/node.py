"""Joins a network in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio

from taktora_trio.connectors.zenoh.handover import Handover
from taktora_trio.connectors.zenoh.memory.network import Line, MemoryNetwork
from taktora_trio.connectors.zenoh.memory.session import MemorySession
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.session import Node

__all__ = ["MemoryNode", "open_memory_node"]


class MemoryNode(Node):
    """A node on a line."""

    def __init__(self, line: Line, backlog: int) -> None:
        self._line, self._backlog = line, backlog

    async def wait_until_linked(self) -> None:
        await self._line.is_linking.wait_value(True)

    @contextlib.asynccontextmanager
    async def open_session(self) -> AsyncIterator[MemorySession]:
        handover = Handover(self._backlog)
        session = MemorySession(self._line, handover)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handover.raise_failure)
            nursery.start_soon(session.end_asks_in_time)
            try:
                yield session
            finally:
                session.lose("disconnected")
                handover.close()
            nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def open_memory_node(options: ZenohOptions) -> AsyncIterator[MemoryNode]:
    """Join the network in this process, as `open_node` does."""
    await trio.lowlevel.checkpoint()
    line = MemoryNetwork.line_at(options.places)
    line.joined.value += 1
    if options.mode == "client":
        line.check(options.address)
    yield MemoryNode(line, options.inbound_backlog)
