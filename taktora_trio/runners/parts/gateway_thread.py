"""A gateway in a thread of its own: a blocking call in it holds up the gateway, and not the app.

The thread runs a trio loop and belongs to the task that awaits `run_in_thread`. A thread can't be killed: one that
blocks for longer than a stop may take is abandoned, and ends with the process.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable

import trio

from taktora_trio.processes.patience import sleep_running
from taktora_trio.supervision.policy import RestartPolicy

__all__ = ["run_in_thread"]

log = logging.getLogger(__name__)

_LOOKS = 10  # for a sign of life, within the silence that counts as a hang
_SHOWN = 1.0  # seconds at least for which a hang is told, so that a busy moment of our own loop does not end it
_LAST = 0.5  # seconds for the thread to unwind, after it was cancelled because the stop's grace was over
_STACK = 6  # entries that show where it blocks


async def run_in_thread(
    work: Callable[[trio.Event], Awaitable[None]],
    stop: trio.Event,
    policy: RestartPolicy,
    on_hang: Callable[[str, float], None],
) -> None:
    """Await `work(stop)` under a trio loop in a thread of its own: return when it returns, raise what it raises.

    `work` gets an event of its own loop, which is set after `stop` is. When it is still there `policy.stop_grace`
    seconds later, it is cancelled; it is cancelled at once when the caller is. In either case this returns within that
    time and half a second more, with the thread abandoned if need be.

    While the thread's loop does not turn for `policy.watchdog` seconds, `on_hang(reason, seconds)` is called again and
    again, each time less than `seconds` after the last.
    """
    thread = _Thread(work, None if policy.watchdog is None else policy.watchdog / _LOOKS)
    patience = trio.CancelScope(shield=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_in_time, thread, stop, policy.stop_grace, patience)
        if policy.watchdog is not None:
            nursery.start_soon(_watch, thread, policy.watchdog, on_hang)
        with patience:
            # A limiter of its own: it stays for as long as the deployment, and trio's 40 are for short calls.
            limiter = trio.CapacityLimiter(1)
            await trio.to_thread.run_sync(thread.run, abandon_on_cancel=True, limiter=limiter, thread_name="gateway")
        if patience.cancelled_caught:
            log.critical(
                "the gateway thread has not ended in time and is abandoned: it is stuck in a blocking (or a shielded)"
                " call, and ends with the process; what it has not published is lost; it is at\n%s",
                thread.place(),
                extra={"event": "gateway-thread-abandoned"},
            )
        nursery.cancel_scope.cancel()


async def _end_in_time(thread: _Thread, stop: trio.Event, grace: float, patience: trio.CancelScope) -> None:
    ends = math.inf
    try:
        await stop.wait()
        thread.stop()
        ends = trio.current_time() + grace
        await sleep_running(grace)
    finally:  # also when the caller is cancelled; and when it has ended, which makes no difference any more
        thread.cancel()
        now = trio.current_time()
        patience.deadline = max(now, min(ends, now + grace)) + _LAST  # `ends` has passed if this process was stopped


async def _watch(thread: _Thread, seconds: float, on_hang: Callable[[str, float], None]) -> None:
    # Looks are counted, and not the time: when our own loop stalls, or the whole process stands still, nobody hangs.
    seen, silent, since = thread.turns, 0, trio.current_time()
    while True:
        await trio.sleep(seconds / _LOOKS)
        if thread.turns != seen:
            if silent >= _LOOKS:
                log.info(
                    "the gateway thread turns its loop again, after %.1f s",
                    trio.current_time() - since,
                    extra={"event": "gateway-thread-back"},
                )
            seen, silent, since = thread.turns, 0, trio.current_time()
            continue
        silent += 1
        if silent == _LOOKS:
            log.error(
                "the gateway thread has not turned its loop for %g s; it is at\n%s",
                seconds,
                thread.place(),
                extra={"event": "gateway-thread-hangs", "seconds": seconds},
            )
        if silent >= _LOOKS:
            shown = max(_SHOWN, 3 * seconds / _LOOKS)
            on_hang(f"the gateway thread has not turned its loop for {seconds:g} s", shown)


class _Thread:
    """A thread, as two loops know it. Each attribute is written by one side alone, and no lock is needed."""

    def __init__(self, work: Callable[[trio.Event], Awaitable[None]], pause: float | None) -> None:
        """`pause` is the time between two signs of life; `None` for none."""
        self.turns = 0
        """Grows as long as the thread's loop turns: a task of that loop counts."""
        self._work = work
        self._pause = pause
        self._ident: int | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop_asked = self._cancel_asked = False
        # Made here, and used by the thread's loop alone.
        self._stop = trio.Event()
        self._scope = trio.CancelScope()

    # For the caller's loop

    def stop(self) -> None:
        self._stop_asked = True
        self._tell()

    def cancel(self) -> None:
        self._cancel_asked = True
        self._tell()

    def place(self) -> str:
        """Return the innermost calls of the thread, just now."""
        frame = None if self._ident is None else sys._current_frames().get(self._ident)
        return "".join(traceback.format_stack(frame)[-_STACK:]).rstrip() if frame else "its start"

    def _tell(self) -> None:
        if self._token is not None:  # else it has not begun, and looks for itself when it does
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._obey)

    # In the thread

    def run(self) -> None:
        self._ident = threading.get_ident()
        try:
            trio.run(self._main)
        except BaseException as exc:
            _forget_locals(exc)
            raise

    async def _main(self) -> None:
        with self._scope:
            self._token = trio.lowlevel.current_trio_token()
            self._obey()
            await trio.lowlevel.checkpoint()  # one that was cancelled before it began must not touch the domain
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._count)
                await self._work(self._stop)
                nursery.cancel_scope.cancel()

    def _obey(self) -> None:
        if self._stop_asked:
            self._stop.set()
        if self._cancel_asked:
            self._scope.cancel()

    async def _count(self) -> None:
        while self._pause is not None:
            self.turns += 1
            await trio.sleep(self._pause)


def _forget_locals(exc: BaseException) -> None:
    """Let go of what the frames of its traceback refer to; the traceback itself stays.

    Else the thread's node would live as long as the exception, which the app may keep: a service has room for a few
    nodes, and each restart opens one.
    """
    seen: set[int] = set()
    left = [exc]
    while left:
        current = left.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        traceback.clear_frames(current.__traceback__)
        left += [inner for inner in (current.__cause__, current.__context__) if inner is not None]
        if isinstance(current, BaseExceptionGroup):
            left += current.exceptions
