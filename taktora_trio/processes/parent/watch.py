"""Watching one child process, from its start to its end: for signs of life, and for what it died of."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Callable

import trio
from trio_util import move_on_when

from taktora_trio.health import FailureKind
from taktora_trio.processes.parent.deadline import Deadline
from taktora_trio.processes.parent.group import Child, describe, exit_code, signal_group
from taktora_trio.processes.parent.notify_socket import Notification, NotifySocket
from taktora_trio.processes.patience import sleep_running
from taktora_trio.processes.pidfd import wait_for_exit
from taktora_trio.supervision.policy import RestartPolicy

__all__ = ["Watch"]

log = logging.getLogger(__name__)

_OUT_OF_MEMORY = 12  # ENOMEM, by which a process says that it could not go on
_DUMP = 0.05  # of the watchdog period: the time that a hung process has to write where it hangs
_UNREAD = 256  # more datagrams than a socket holds unread (unix(7): 10 as a rule)


class Watch:
    """The watch over one incarnation."""

    def __init__(
        self,
        name: str,
        child: Child,
        policy: RestartPolicy,
        notify: NotifySocket,
        ready: Callable[[], None],
        on_status: Callable[[str], None],
    ) -> None:
        self._name = name
        self._child = child
        self._notify = notify
        self._ready = ready
        self._on_status = on_status
        self._deadline = Deadline(policy)
        self._errno = 0
        self._exit_status: int | None = None
        self._missed: str | None = None  # the reason why it was killed
        self.silent = 0.0
        """The seconds without a sign before it was killed for that."""

    async def until_ended(self, ended: Callable[[int], None]) -> None:
        """Wait until the process has ended. One that gives no sign of life in time is killed.

        `ended` is called with its exit code when it is known what it died of, in the same turn of the loop as its end,
        and before the kernel is asked to forget it: either would take 0.1 ms until the app learns of it.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._kill_when_silent)
            await wait_for_exit(self._child.pid)
            with contextlib.suppress(trio.WouldBlock):  # what it died of, should it have said so
                for _ in range(_UNREAD):
                    self._note_end(self._notify.receive_nowait())
            ended(exit_code(self._child.pid))
            nursery.cancel_scope.cancel()
        await self._child.wait()

    async def _kill_when_silent(self) -> None:
        heard = trio.current_time()
        while await self._hear_in_time(heard):
            heard = trio.current_time()
        self.silent = trio.current_time() - heard
        self._missed = self._deadline.missed(self.silent)
        log.error(
            "%s: pid %d: %s, so it is killed",
            self._name,
            self._child.pid,
            self._missed,
            extra={"event": "process-hangs", "half": self._name, "child": self._child.pid},
        )
        # First the signal at which a Python process with faulthandler writes where it is.
        signal_group(self._child.pid, signal.SIGABRT)
        await trio.sleep(min(self._deadline.period * _DUMP, 0.5))
        signal_group(self._child.pid, signal.SIGKILL)

    async def _hear_in_time(self, heard: float) -> bool:
        """Wait for a notification that counts. Returns false if none comes in time, as long as we run."""
        async with move_on_when(sleep_running, self._deadline.left):
            while True:
                if self._hear(await self._notify.receive(), heard):
                    return True
        with contextlib.suppress(trio.WouldBlock):  # what came while we had no time to read it
            for _ in range(_UNREAD):
                if self._hear(self._notify.receive_nowait(), heard):
                    return True
        return False

    def _hear(self, news: Notification, heard: float) -> bool:
        self._note_end(news)
        if news.status:
            self._on_status(news.status)
        was_ready = self._deadline.was_ready
        counts = self._deadline.hear(news, trio.current_time() - heard)
        if self._deadline.was_ready and not was_ready:
            self._ready()
        return counts

    def _note_end(self, news: Notification) -> None:
        self._errno = news.errno or self._errno
        self._exit_status = self._exit_status if news.exit_status is None else news.exit_status

    def failed(self, returncode: int) -> bool:
        """True if it ended by a failure: not with the code 0, nor with one that it said it was asked for."""
        return self._missed is not None or returncode < 0 or returncode not in (0, self._exit_status)

    def verdict(self, returncode: int, memory_ran_out: bool) -> tuple[FailureKind, str]:
        """Return the kind of the end, and its description."""
        if self._missed is not None:
            return ("hang" if self._deadline.was_ready else "start-deadline"), f"{self._missed}, so it was killed"
        if self._errno == _OUT_OF_MEMORY:
            return "out-of-memory", "out of memory"
        if returncode == -signal.SIGKILL and memory_ran_out:
            return "out-of-memory", "killed by the kernel, out of memory"
        return ("signal" if returncode < 0 else "exit"), describe(returncode)
