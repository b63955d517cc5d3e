"""Requests that were begun, with their replies, for as long as they may come again: pure, and bounded in memory."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import TypeAlias

import msgspec

from taktora_trio.channels.signs import Properties

__all__ = ["KEPT_AFTER", "Answered", "Begun", "Key", "Reply"]

KEPT_AFTER = 60.0
"""Seconds for which a request is known after its deadline; after its end, where it has no deadline.

A repeat may come so much later than the deadline, and be alive. Each hop counts whole seconds, and rounds what is left
of its life up; and nobody counts the time in which it is in a link, or in the queue of one that is held up.
"""

Key: TypeAlias = tuple[str, bytes]
"""A request, for whoever has sent it: where the reply goes, and the correlation id."""


class Reply(msgspec.Struct, frozen=True):
    """A reply as it was sent."""

    payload: bytes
    properties: Properties = ()


class Begun(msgspec.Struct):
    """A request that was begun."""

    number: int
    replies: list[Reply] = msgspec.field(default_factory=list)
    is_finished: bool = False
    deadline: float = math.inf
    size: int = 0


class Answered:
    """Knows a request again: from its beginning, while there is work at it, and until no repeat can come any more.

    Where that takes more memory than it may, those are forgotten that have the earliest deadlines and no work at them.
    They would be carried out once more if they came again.
    """

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self.forgotten = 0
        """Counts requests that were forgotten before their deadlines."""
        self.size = 0
        """The bytes of all requests' ids, and of their replies."""
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._begun: dict[Key, Begun] = {}
        self._expiring: list[tuple[float, int, Key]] = []  # a heap of those that are finished, and of some forgotten
        self._numbers = itertools.count()
        self._now = 0.0  # when it was last told the time

    def __len__(self) -> int:
        return len(self._begun)

    def find(self, key: Key, now: float) -> Begun | None:
        """Return the request if it was begun and is still known."""
        self._expire(now)
        return self._begun.get(key)

    def begin(self, key: Key) -> None:
        """Know this request from now on, which was not found."""
        self._begun[key] = begun = Begun(next(self._numbers))
        self._grow(begun, len(key[0]) + len(key[1]))

    def add(self, key: Key, reply: Reply) -> None:
        """Keep a reply to a request, if it is known."""
        begun = self._begun.get(key)
        if begun is not None:
            begun.replies.append(reply)
            self._grow(begun, len(reply.payload) + sum(len(name) + len(value) for name, value in reply.properties))

    def finish(self, key: Key, deadline: float, now: float) -> None:
        """There is no more work at it; nobody waits for it after `deadline`, which may be infinite."""
        self._now = now
        begun = self._begun.get(key)
        if begun is not None and not begun.is_finished:
            begun.is_finished, begun.deadline = True, deadline
            until = (now if deadline == math.inf else deadline) + KEPT_AFTER
            heapq.heappush(self._expiring, (until, begun.number, key))
            self._make_room()

    def forget(self, key: Key) -> None:
        """It is as if the request had never come."""
        begun = self._begun.pop(key, None)
        if begun is not None:
            self.size -= begun.size
            if len(self._expiring) > 2 * len(self._begun) + 16:
                self._expiring = [entry for entry in self._expiring if self._is_current(entry)]
                heapq.heapify(self._expiring)

    def _grow(self, begun: Begun, by: int) -> None:
        begun.size += by
        self.size += by
        self._make_room()

    def _is_current(self, entry: tuple[float, int, Key]) -> bool:
        begun = self._begun.get(entry[2])
        return begun is not None and begun.number == entry[1]

    def _expire(self, now: float) -> None:
        self._now = now
        while self._expiring and self._expiring[0][0] <= now:
            entry = heapq.heappop(self._expiring)
            if self._is_current(entry):
                self.forget(entry[2])

    def _make_room(self) -> None:
        while self._expiring and (len(self._begun) > self._max_requests or self.size > self._max_bytes):
            entry = heapq.heappop(self._expiring)
            if self._is_current(entry):
                self.forgotten += self._begun[entry[2]].deadline > self._now
                self.forget(entry[2])
