"""A task as something to supervise: an exception in it ends that incarnation, and its owner goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from taktora_trio.errors import collapse, summary
from taktora_trio.supervision.supervisor import Exit, Runner

__all__ = ["as_task"]


def as_task(run: Callable[[int], Awaitable[None]]) -> Runner:
    """Return a runner that awaits `run(incarnation)`.

    Any `Exception` that leaves it (an `ExceptionGroup` too, with all its causes) is a crash. Cancellation,
    `KeyboardInterrupt` and `SystemExit` are no crash and pass through.
    """

    async def runner(incarnation: int, ready: Callable[[], None]) -> Exit:
        ready()  # a task works from its first step
        try:
            await run(incarnation)
        except Exception as exc:  # noqa: BLE001 - the one place that supervises
            crash = collapse(exc)
            return Exit("exception", summary(crash), failed=True, exception=crash)
        return Exit("exit", "it returned", failed=False)

    return runner
