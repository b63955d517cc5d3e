"""All sources of one item, as one: they take turns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import trio
from trio_util import wait_any

from taktora_trio.executor.timer import Timer, open_timer
from taktora_trio.executor.wake import Outcome, Source, Wake

__all__ = ["Sources"]


class Sources:
    """All sources of one item, in turn."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        self._taken = self._sources[-1]
        self._have_events = any(source.is_event for source in self._sources)
        only = self._sources[0] if len(self._sources) == 1 else None
        self._is_exact = any(source.is_exact for source in self._sources)
        self._timer: Timer | None = None
        self._only_event = only if only is not None and only.is_event and only.due == math.inf else None

    def begin(self, origin: float) -> None:
        """The executor starts. `close` is called when it has ended, if `begin` was called."""
        for source in self._sources:
            source.begin(origin)
        if self._is_exact:
            self._timer = open_timer()

    async def serve(self) -> None:
        """Have the loop wake for what is due while `wait` waits for events, too. Runs until cancelled, or returns."""
        if self._timer is not None and self._have_events:
            await self._timer.serve_alarms()

    @property
    def ended(self) -> bool:
        return all(source.ended for source in self._sources)

    def is_asleep(self, now: float) -> bool:
        """Return true if the next cycle can't come before `wait` has let other tasks run."""
        if self._only_event is not None and self._only_event.always_waits:
            return True
        return not self._have_events and all(source.due > now for source in self._sources)

    def take(self, now: float) -> Wake | None:
        """Return the next reason to wake the item, beginning behind the source that had something last."""
        if len(self._sources) == 1:
            return self._taken.take(now)
        first = self._sources.index(self._taken) + 1
        for source in (*self._sources[first:], *self._sources[:first]):
            if not source.ended and (wake := source.take(now)) is not None:
                self._taken = source
                return wake
        return None

    async def wait(self) -> None:
        """Wait until `take` may have something."""
        if self._only_event is not None:
            await self._only_event.wait()
            return
        due = min(source.due for source in self._sources)
        events = [source.wait for source in self._sources if source.is_event and not source.ended]
        if not events:
            await (trio.sleep_until(due) if self._timer is None else self._timer.sleep_until(due))
            return
        if self._timer is not None:
            self._timer.alarm(due)
        waiting = events[0]() if len(events) == 1 else wait_any(*events)
        if due == math.inf:
            await waiting
        else:
            with trio.move_on_at(due):
                await waiting

    def pass_over(self, now: float) -> int:
        """Miss what was due during the cycle that was taken, and return how much."""
        return self._taken.pass_over(now)

    def pass_over_all(self, now: float) -> int:
        """Miss what was due while the item was out of service, and return how much."""
        return sum(source.pass_over(now) for source in self._sources)

    def settle(self, outcome: Outcome, reason: str = "") -> None:
        """Say what became of the cycle that was taken."""
        self._taken.settle(outcome, reason)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        for source in self._sources:
            source.close()
