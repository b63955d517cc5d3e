"""Runs something until it ends, or until it has to stop: at a signal, after a time, or without its supervisor."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from taktora_trio.processes.child.supervisor_link import SupervisorLink
from taktora_trio.runners.this_process.logs import tell_repeats
from taktora_trio.runners.this_process.signals import open_stop_signals

__all__ = ["until_stopped"]


def _do_nothing() -> None: ...


async def until_stopped(
    work: Callable[[trio.Event], Awaitable[int]],
    link: SupervisorLink | None = None,
    seconds: float | None = None,
    end_at_once: Callable[[], None] = _do_nothing,
    on_hangup: Callable[[], None] | None = None,
) -> int:
    """Run `work`, and set its stop event at a signal, after `seconds`, or when the supervisor is gone.

    A second signal calls `end_at_once`. SIGHUP calls `on_hangup` instead, if there is one.
    """

    async def stop_when(wait: Callable[[], Awaitable[None]]) -> None:
        await wait()
        stop.set()

    async with open_stop_signals(end_at_once, on_hangup) as stop, trio.open_nursery() as nursery:
        nursery.start_soon(tell_repeats)
        if link is not None:
            nursery.start_soon(stop_when, partial(_wait_until_alone, link))
        if seconds is not None:
            nursery.start_soon(stop_when, partial(trio.sleep, seconds))
        code = await work(stop)
        nursery.cancel_scope.cancel()
    return code


async def _wait_until_alone(link: SupervisorLink) -> None:
    await link.wait_until_gone()
    # The supervisor took our output. Writing must not fail now, for the stop still logs.
    with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230, PTH123 - it never waits
        for fd in (1, 2):
            os.dup2(nowhere.fileno(), fd)
