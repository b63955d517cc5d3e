"""A flood under asyncio, by a call that is awaited: several tasks share the messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from benchmarks import message

if TYPE_CHECKING:
    from benchmarks.peers.control import Flood

__all__ = ["flood_tasks"]


async def flood_tasks(order: Flood, at_once: int, publish: Callable[[bytes], Awaitable[object]]) -> None:
    """Send all messages of the order, each of `at_once` tasks one after the other."""
    end = order.first + order.count - 1
    numbers = iter(range(order.first, end + 1))

    async def send() -> None:
        for number in numbers:  # of all tasks together
            await publish(message.text(number, last=number == end, length=order.length))

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(send())
