"""One polite stop, then force: SIGINT, SIGTERM and SIGHUP for a whole process."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType

import trio
from trio_util import RepeatedEvent

__all__ = ["REVIVE", "open_revive_signal", "open_stop_signals", "stop_signals"]

log = logging.getLogger(__name__)

REVIVE = signal.SIGUSR1
_LOOK = 0.05  # seconds of our own computing after which a second signal is noticed for certain


def stop_signals() -> list[signal.Signals]:
    """Return the signals that ask for a stop. A SIGHUP that is ignored, as by nohup(1), stays so."""
    ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignores_hangup else [signal.SIGHUP])]


@contextlib.asynccontextmanager
async def open_stop_signals(on_second: Callable[[], None]) -> AsyncIterator[trio.Event]:
    """Yield an event, which the first SIGINT, SIGTERM or SIGHUP sets.

    A second SIGINT or SIGTERM calls `on_second` and ends the process at once with 128 + the signal's number, also when
    the trio loop is stuck: it runs in the signal handler, not in a task. SIGHUP never forces anything, for a terminal
    that closes sends two (the kernel and the shell each send one), and systemd may send it together with SIGTERM
    (`SendSIGHUP=`, systemd.kill(5)). Must be entered in the main thread.
    """
    stop = trio.Event()
    token = trio.lowlevel.current_trio_token()
    asked = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if signum != signal.SIGHUP:
            if asked:
                on_second()
                os._exit(128 + signum)
            asked = True
        # The kernel may hand a second signal that follows at once to another thread, and Python then does not interrupt
        # what the main thread computes to look for it. It does at the next signal that the main thread gets itself.
        signal.setitimer(signal.ITIMER_VIRTUAL, _LOOK, _LOOK)
        token.run_sync_soon(log.info, "%s: stopping", signal.Signals(signum).name)
        token.run_sync_soon(stop.set)

    before = {signum: signal.signal(signum, handle) for signum in stop_signals()}
    before[signal.SIGVTALRM] = signal.signal(signal.SIGVTALRM, lambda signum, frame: None)
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def open_revive_signal() -> Iterator[RepeatedEvent]:
    """Yield a bell, which each SIGUSR1 rings. Must be entered in the main thread, under trio."""
    bell = RepeatedEvent()
    token = trio.lowlevel.current_trio_token()
    before = signal.signal(REVIVE, lambda signum, frame: token.run_sync_soon(bell.set))
    try:
        yield bell
    finally:
        signal.signal(REVIVE, before)
