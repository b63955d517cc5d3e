"""Waiting for another process, on a clock that only goes while this one runs.

A whole run may be stopped and go on later: a laptop that sleeps, `docker pause` (the cgroup freezer), Ctrl-Z. No
process could do anything meanwhile, so that time is no silence of any, and no part of a grace period.
"""

from __future__ import annotations

import trio

__all__ = ["sleep_running"]

_STEPS = 10


async def sleep_running(seconds: float) -> None:
    """Sleep until this process has run for `seconds`. A stop, however long, counts for a tenth of them at most.

    Nothing tells a process that it was stopped (SIGSTOP can't be caught, and the freezer sends no signal). So it sleeps
    in steps, and a step that took too long counts as one step.
    """
    for _ in range(_STEPS):
        await trio.sleep(seconds / _STEPS)
