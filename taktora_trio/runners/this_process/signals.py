"""One polite stop, then force: SIGINT, SIGTERM, and SIGHUP from a terminal that closes; and the other signals of a run.

A program of a terminal ends with it. One that has none when it starts, as a service, can't lose it: there SIGHUP is a
request, by convention to read the configuration again (daemon(7)).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import FrameType

import trio
from trio_util import RepeatedEvent

from taktora_trio.processes.procfs import process_stat

__all__ = ["REVIVE", "has_terminal", "open_revive_signal", "open_stop_signals", "stop_signals"]

log = logging.getLogger(__name__)

REVIVE = signal.SIGUSR1
_TERMINAL = 4  # its field in what `process_stat` returns: tty_nr
_LOOK = 0.05  # seconds of our own computing after which a second signal is noticed for certain


def stop_signals() -> list[signal.Signals]:
    """Return the signals that ask for a stop. A SIGHUP that is ignored, as by nohup(1), stays so."""
    ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignores_hangup else [signal.SIGHUP])]


def has_terminal() -> bool:
    """Return whether this process is of a session with a terminal (its controlling terminal, credentials(7))."""
    return process_stat(os.getpid())[_TERMINAL] != "0"


@contextlib.asynccontextmanager
async def open_stop_signals(
    on_second: Callable[[], None], on_hangup: Callable[[], None] | None = None
) -> AsyncIterator[trio.Event]:
    """Yield an event, which the first SIGINT, SIGTERM or SIGHUP sets. With `on_hangup` SIGHUP calls that instead.

    A second SIGINT or SIGTERM calls `on_second` and ends the process at once with 128 + the signal's number, also when
    the trio loop is stuck: it runs in the signal handler, not in a task. SIGHUP never forces anything, for a terminal
    that closes sends two (the kernel and the shell each send one), and systemd may send it together with SIGTERM
    (`SendSIGHUP=`, systemd.kill(5)). Such a one may be late: after a stop that a signal asked for, SIGHUP stays ignored
    where it would end the process by default. Must be entered in the main thread.
    """
    stop = trio.Event()
    token = trio.lowlevel.current_trio_token()
    asked = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if signum == signal.SIGHUP and on_hangup is not None:
            token.run_sync_soon(on_hangup)
            return
        if signum != signal.SIGHUP:
            if asked:
                on_second()
                os._exit(128 + signum)
            asked = True
        # The kernel may hand a second signal that follows at once to another thread, and Python then does not interrupt
        # what the main thread computes to look for it. It does at the next signal that the main thread gets itself.
        signal.setitimer(signal.ITIMER_VIRTUAL, _LOOK, _LOOK)
        token.run_sync_soon(partial(log.info, "%s: stopping", signal.Signals(signum).name, extra={"event": "stopping"}))
        token.run_sync_soon(stop.set)

    before = {signum: signal.signal(signum, handle) for signum in stop_signals()}
    before[signal.SIGVTALRM] = signal.signal(signal.SIGVTALRM, lambda signum, frame: None)
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if stop.is_set() and before.get(signal.SIGHUP) is signal.SIG_DFL:
            before[signal.SIGHUP] = signal.SIG_IGN
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def open_revive_signal(is_other: Callable[[], bool] = lambda: False) -> Iterator[RepeatedEvent]:
    """Yield a bell, which each SIGUSR1 rings, unless `is_other()` says that something else is asked for by it.

    Must be entered in the main thread, under trio.
    """
    bell = RepeatedEvent()
    token = trio.lowlevel.current_trio_token()

    def ring() -> None:
        if not is_other():
            bell.set()

    before = signal.signal(REVIVE, lambda signum, frame: token.run_sync_soon(ring))
    try:
        yield bell
    finally:
        signal.signal(REVIVE, before)
