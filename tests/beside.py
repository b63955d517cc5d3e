"""Faults for a gateway: a task of its own beside what it carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from taktora_trio.connectors.base import GatewayChannels
from taktora_trio.executor import Context, every


def run_beside(channels: GatewayChannels, task: Callable[[], Awaitable[object]]) -> None:
    """Run a task in this gateway from its start. What it raises ends the gateway."""

    async def run(ctx: Context) -> None:
        await task()

    channels.executor.add(run, every(3600), name="beside")  # at once, and not again in any test
