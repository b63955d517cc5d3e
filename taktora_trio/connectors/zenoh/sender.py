"""Calls that may wait for the network, in their order, in a worker thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import trio

__all__ = ["Sender"]

_Job: TypeAlias = tuple[Callable[[], object], Callable[[], None] | None]


class Sender:
    """Calls what is queued, a batch at a time: one hop to a thread for all that has gathered."""

    def __init__(self, on_failure: Callable[[Exception], None]) -> None:
        """`on_failure` is called in trio's thread with what a call raised. Nothing is called after that."""
        self._on_failure = on_failure
        self._jobs: list[_Job] = []
        self._has_jobs = trio.Event()
        self._is_idle = trio.Event()
        self._is_idle.set()
        self._is_open = True

    def later(self, call: Callable[[], object], on_called: Callable[[], None] | None = None) -> None:
        """Call this behind all that was queued before, never in this step of the caller's task."""
        if self._is_open:
            self._jobs.append((call, on_called))
            self._has_jobs.set()
            if self._is_idle.is_set():
                self._is_idle = trio.Event()

    async def flush(self) -> None:
        """Wait until all is called that is queued, or the sender has ended."""
        await self._is_idle.wait()

    async def serve(self) -> None:
        """Serve until it is cancelled. What is being called then ends first."""
        try:
            while True:
                await self._has_jobs.wait()
                self._has_jobs = trio.Event()
                jobs, self._jobs = self._jobs, []
                failure = await trio.to_thread.run_sync(_call, jobs)
                if failure is not None:
                    self._on_failure(failure)
                    return
                for _, on_called in jobs:
                    if on_called is not None:
                        on_called()
                if not self._jobs:
                    self._is_idle.set()
        finally:
            self._is_open = False
            self._jobs.clear()
            self._is_idle.set()


def _call(jobs: list[_Job]) -> Exception | None:
    try:
        for call, _ in jobs:
            call()
    except Exception as exc:  # noqa: BLE001 - told in trio's thread
        return exc
    return None
