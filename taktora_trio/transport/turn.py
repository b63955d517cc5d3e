"""The processes of a domain open things in turn, and none depends on another for it.

iceoryx2 connects two ports in the process that opens the second one, before the first can see it. As they are opened in
turn, sending and receiving never create anything.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import AsyncIterator

import trio

from taktora_trio.transport.locks import holder_of, is_stopped, release, try_lock
from taktora_trio.transport.pauses import PAUSES, sleep

__all__ = ["Turn"]

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds for which another that opens something is waited for."""
_ROLE = "opening"


class Turn:
    """The turn to open something in one domain: of one process, and in it of one task of one thread, at a time.

    A process has one of these for a domain. The domain's lock stands between processes; `threading.Lock` between the
    threads and tasks of this one, for whom the domain's lock is one and the same.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._here = threading.Lock()
        self._passed: set[int] = set()  # process ids that were waited for long enough

    @contextlib.asynccontextmanager
    async def taken(self, what: str) -> AsyncIterator[None]:
        """Have the turn in the block. No other process opens anything then, unless it was passed.

        Waits for up to 2 s for another that has the turn, and not at all for a process that is stopped, or that was
        waited for before. Then it passes that one: the block runs without the turn, and `what` is named in a warning.
        """
        mine = await self._take(what)
        try:
            yield
        finally:
            if mine:
                release(self._folder, _ROLE)
                self._here.release()

    async def _take(self, what: str) -> bool:
        """Wait for the turn. Returns false if the process that has it is passed."""
        deadline, pauses = trio.current_time() + PATIENCE, PAUSES.delays()
        while not self._try():
            pid = holder_of(self._folder, _ROLE)
            if pid is not None:  # else it is free again
                if pid in self._passed:
                    return False
                stands_still = pid > 0 and is_stopped(pid)
                if stands_still or trio.current_time() >= deadline:
                    why = "stands still" if stands_still else "is still opening something"
                    log.warning(
                        "opening %s beside process %s, which %s",
                        what,
                        pid or "unknown",
                        why,
                        extra={"event": "opening-beside"},
                    )
                    self._passed.add(pid)
                    return False
            await sleep(next(pauses))
        self._passed.clear()
        return True

    def _try(self) -> bool:
        if not self._here.acquire(blocking=False):
            return False
        with contextlib.ExitStack() as undo:
            undo.callback(self._here.release)
            if not try_lock(self._folder, _ROLE):
                return False
            undo.pop_all()
        return True
