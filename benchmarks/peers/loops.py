"""Which event loop a contestant under asyncio has: asyncio's own, or uvloop's, as some of their docs advise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from benchmarks.peers.control import Setting, setting

__all__ = ["run_under_asyncio"]


def run_under_asyncio(run: Callable[[Setting], Awaitable[None]]) -> None:
    """Run it with this process's setting."""
    told = setting()
    factory = None
    if told.uvloop:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_call(run, told))


async def _call(run: Callable[[Setting], Awaitable[None]], told: Setting) -> None:
    await run(told)
