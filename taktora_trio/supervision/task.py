"""Supervise a task: an exception in it is reported and the task started again; its owner goes on."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio
from trio_util import move_on_when

from taktora_trio.errors import collapse
from taktora_trio.supervision.policy import Finish, GiveUp, Restart, RestartHistory, RestartPolicy

__all__ = ["supervise_task"]

log = logging.getLogger(__name__)


async def supervise_task(
    name: str,
    run: Callable[[int], Awaitable[None]],
    policy: RestartPolicy,
    *,
    stop: trio.Event,
    on_crash: Callable[[int, Exception | None, Restart | GiveUp], None],
) -> None:
    """Await `run(incarnation)`, incarnation 1 first, again and again as the policy says; return when it says no more.

    Once `stop` is set (which `run` is expected to watch for) its end is wanted, and it is not started again.

    Any `Exception` that leaves `run` (an `ExceptionGroup` too) is a crash: it is logged once, with its traceback, and
    `on_crash(incarnation, exception, decision)` is called, with `None` for a return that the policy does not accept
    as an end. Cancellation, `KeyboardInterrupt` and `SystemExit` are nobody's crash and pass through.
    """
    history = RestartHistory(policy)
    incarnation = 0
    while True:
        if stop.is_set():
            return
        incarnation += 1
        started = trio.current_time()
        crash: Exception | None = None
        try:
            await run(incarnation)
        except Exception as exc:  # noqa: BLE001 - the one place that supervises
            crash = collapse(exc)
        if stop.is_set():
            if crash is not None:
                log.error("%s: crashed while stopping", name, exc_info=crash)
            return
        decision = history.decide(failed=crash is not None, started=started, now=trio.current_time())
        match decision:
            case Finish():
                return
            case GiveUp(reason=reason):
                log.critical("%s: given up: %s", name, reason, exc_info=crash)
                on_crash(incarnation, crash, decision)
                return
            case Restart(delay=delay):
                verb = "ended" if crash is None else "crashed"
                log.error("%s: %s, starts again in %.2f s", name, verb, delay, exc_info=crash)
                on_crash(incarnation, crash, decision)
                async with move_on_when(stop.wait):
                    await trio.sleep(delay)
