"""The order of a stop: the app ends first, while its gateway still works."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

__all__ = ["open_outlasting"]


@contextlib.asynccontextmanager
async def open_outlasting(
    serve: Callable[[], Awaitable[object]], stop: Callable[[trio.CancelScope], None], grace: float
) -> AsyncIterator[trio.Nursery]:
    """Run a service that outlasts the block, whatever ends the block: so what the app sends last is still carried.

    After the block `stop(scope)` asks the service to end; it may cancel the service's scope. A block that was cancelled
    or that raises waits for that no longer than `grace` seconds. If the service raises, the block is cancelled. The
    nursery is for what ends with the block.
    """
    scope = trio.CancelScope(shield=True)

    async def outlast() -> None:
        with scope:
            await serve()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outlast)
        in_order = False
        try:
            async with trio.open_nursery() as inner:
                yield inner
                inner.cancel_scope.cancel()
            in_order = trio.current_effective_deadline() > -math.inf
        finally:
            if in_order:
                scope.shield = False  # now it may be cancelled from outside, like anything else
            else:
                scope.deadline = trio.current_time() + grace
            stop(scope)
