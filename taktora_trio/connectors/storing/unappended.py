"""Unappended: the messages of a stored channel that were taken, and are not in the log. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator

from taktora_trio.channels import Envelope

__all__ = ["Unappended"]


class Unappended:
    """In the order in which they were taken. What is done with meanwhile need never be appended."""

    def __init__(self) -> None:
        self.first = math.inf
        """The number of the first: it and all behind it are not in the log. Endless if there is none."""
        self._waiting: deque[Envelope] = deque()
        self._finished: set[int] = set()  # of these, what was done with before one that came before it

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Envelope]:
        return iter(self._waiting)

    def put(self, envelope: Envelope) -> None:
        """Add one that was just taken."""
        if not self._waiting:
            self.first = envelope.header.sequence_number
        self._waiting.append(envelope)

    def peek(self) -> Envelope | None:
        """Return the first, which is not done with."""
        return self._waiting[0] if self._waiting else None

    def pop(self) -> None:
        """The first is in the log, or is done with."""
        waiting, finished = self._waiting, self._finished
        waiting.popleft()
        while finished and waiting and waiting[0].header.sequence_number in finished:
            finished.discard(waiting.popleft().header.sequence_number)
        self.first = waiting[0].header.sequence_number if waiting else math.inf

    def finish(self, number: int) -> None:
        """One of them, `first` or a later one, is done with."""
        if number == self.first:
            self.pop()
        else:
            self._finished.add(number)

    def renumber(self, renumbered: Callable[[Envelope], Envelope | None]) -> None:
        """Replace each by the same under another number; leave out those that are done with, or given as `None`."""
        left = [one for one in self._waiting if one.header.sequence_number not in self._finished]
        self._finished.clear()
        self._waiting = deque(one for one in map(renumbered, left) if one is not None)
        self.first = self._waiting[0].header.sequence_number if self._waiting else math.inf
