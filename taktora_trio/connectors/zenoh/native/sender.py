"""Calls that may wait for the network, in their order: in a thread of their own, unless it is known that none waits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeAlias

import trio

__all__ = ["Sender"]

_Job: TypeAlias = tuple[Callable[..., object], tuple[Any, ...], Callable[[], None] | None]

_AT_ONCE = 32 * 1024
"""Bytes that are given to the library in trio's thread at once. A node queues two batches of 64 KB, so that it takes as
much without waiting for the network, if it has nothing else to send."""


class Sender:
    """Calls what is queued, in a worker thread that it has for as long as it is served.

    A batch is handed over to the thread at a time. To start a thread for each batch would take a lone message 100 us
    more, and to call in trio's thread could stop it for seconds. Where the kernel says that the other side takes what
    is sent, a small batch is called in trio's thread all the same: to wake the other one costs a third as much again.
    """

    def __init__(
        self,
        tell: Callable[[Callable[[], None]], None],
        on_failure: Callable[[Exception], None],
        is_clear: Callable[[], bool] = lambda: False,
    ) -> None:
        """`tell` has something called in trio's thread. `on_failure` is called there with what a call raised: nothing
        is called after that. `is_clear` says whether a call for a few KB would not wait for the network."""
        self._tell, self._on_failure, self._is_clear = tell, on_failure, is_clear
        self._jobs: list[_Job] = []
        self._size = 0  # bytes of these
        self._batches: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._unfinished = 0  # batches
        self._gathers = False
        self._is_due = trio.Event()
        self._is_idle = trio.Event()
        self._is_idle.set()
        self._is_open = True
        self._is_calling = False
        self.ended = trio.Event()
        """Set when it calls nothing any more."""

    def later(
        self,
        call: Callable[..., object],
        args: tuple[Any, ...] = (),
        on_called: Callable[[], None] | None = None,
        size: int = 0,
    ) -> None:
        """Call this behind all that was queued before, never in this step of the caller's task.

        In a block of the sender it is called at the end of that block, or later. `size` is what it has to send.
        """
        if self._is_open:
            self._jobs.append((call, args, on_called))
            self._size += size
            if not self._gathers:
                self._is_due.set()

    def __enter__(self) -> None:
        """Gather what is queued in the block, and hand it over at the end."""
        self._gathers = True

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._gathers = False
        self._hand_over()

    async def flush(self) -> None:
        """Wait until all is called that is queued, or the sender is closed."""
        self._hand_over()
        await self._is_idle.wait()

    async def serve(self) -> None:
        """Serve until it is closed, and what is being called has ended: whoever cancels this closes it."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hand_over_soon)
                try:
                    await trio.to_thread.run_sync(self._call, limiter=trio.CapacityLimiter(1))
                finally:
                    self.close()
                nursery.cancel_scope.cancel()
        finally:
            self.ended.set()

    def close(self) -> None:
        """Call nothing more: what is queued is forgotten."""
        if self._is_open:
            self._is_open = False
            self._jobs.clear()
            self._batches.put(None)
            self._is_idle.set()

    @property
    def is_calling(self) -> bool:
        """True while the thread is in a call, which may have to wait."""
        return self._is_calling

    async def _hand_over_soon(self) -> None:
        while True:
            await self._is_due.wait()
            self._is_due = trio.Event()
            self._hand_over()

    def _hand_over(self) -> None:
        if self._jobs and self._is_open:
            jobs, self._jobs = self._jobs, []
            size, self._size = self._size, 0
            if not self._unfinished and size <= _AT_ONCE and self._is_clear():
                self._call_now(jobs)
                return
            self._unfinished += 1
            if self._is_idle.is_set():
                self._is_idle = trio.Event()
            self._batches.put(jobs)

    def _call_now(self, jobs: list[_Job]) -> None:
        try:
            for call, args, _ in jobs:
                call(*args)
        except Exception as exc:  # noqa: BLE001 - told in a step of its own
            self.close()
            self._tell(partial(self._failed, exc))
            return
        for _, _, on_called in jobs:
            if on_called is not None:
                on_called()

    def _finished(self, jobs: list[_Job]) -> None:
        for _, _, on_called in jobs:
            if on_called is not None:
                on_called()
        self._unfinished -= 1
        if not self._unfinished and not self._jobs:
            self._is_idle.set()

    def _failed(self, failure: Exception) -> None:
        self.close()
        self._on_failure(failure)

    # In the thread

    def _call(self) -> None:
        while (jobs := self._batches.get()) is not None:
            self._is_calling = True
            try:
                for call, args, _ in jobs:
                    if not self._is_open:
                        return
                    call(*args)
            except Exception as exc:  # noqa: BLE001 - told in trio's thread
                self._tell(partial(self._failed, exc))
                return
            finally:
                self._is_calling = False
            self._tell(partial(self._finished, jobs))
