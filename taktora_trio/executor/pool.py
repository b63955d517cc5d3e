"""The worker processes of one executor, for `in_process`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import trio

from taktora_trio.executor.worker import end_with_parent

__all__ = ["WorkerPool"]

_GRACE = 5.0  # seconds in which an idle worker process ends, once it is told to; else it is killed


class WorkerPool:
    """Starts a worker process when one is needed, and keeps it for the next cycle. None is left after the block."""

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()
        self._pool: Any = None

    async def __aenter__(self) -> WorkerPool:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._pool is None:
            return
        from trio_parallel import BrokenWorkerError

        # A stop may have ended idle ones already: its signal goes to the whole process group.
        with contextlib.suppress(BrokenWorkerError):
            await self._stack.aclose()

    async def run(self, function: Callable[..., Any], *arguments: Any, limiter: trio.CapacityLimiter) -> Any:
        """Call the function in a worker process, and return what it returns, or raise what it raises.

        Raises `trio_parallel.BrokenWorkerError` if the process died.
        """
        if self._pool is None:
            from trio_parallel import open_worker_context

            # Several items may come here at once, and entering does not wait; but nothing may come between.
            self._pool = await self._stack.enter_async_context(
                open_worker_context(init=end_with_parent, grace_period=_GRACE)
            )
        return await self._pool.run_sync(function, *arguments, kill_on_cancel=True, limiter=limiter)
