"""One polite stop, then force: SIGINT and SIGTERM for a whole process."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType

import trio
from trio_util import RepeatedEvent

__all__ = ["REVIVE", "open_revive_signal", "open_stop_signals"]

log = logging.getLogger(__name__)

REVIVE = signal.SIGUSR1


@contextlib.asynccontextmanager
async def open_stop_signals(on_second: Callable[[], None]) -> AsyncIterator[trio.Event]:
    """The event that the first SIGINT or SIGTERM sets.

    A second one calls `on_second` and ends the process at once with 128 + the signal's number, also when the trio
    loop is stuck: it runs in the signal handler, not in a task. Must be entered in the main thread.
    """
    stop = trio.Event()
    token = trio.lowlevel.current_trio_token()
    asked = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            on_second()
            os._exit(128 + signum)
        asked = True
        token.run_sync_soon(log.info, "%s: stopping", signal.Signals(signum).name)
        token.run_sync_soon(stop.set)

    before = {signum: signal.signal(signum, handle) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def open_revive_signal() -> Iterator[RepeatedEvent]:
    """The bell that each SIGUSR1 rings. Must be entered in the main thread, under trio."""
    bell = RepeatedEvent()
    token = trio.lowlevel.current_trio_token()
    before = signal.signal(REVIVE, lambda signum, frame: token.run_sync_soon(bell.set))
    try:
        yield bell
    finally:
        signal.signal(REVIVE, before)
