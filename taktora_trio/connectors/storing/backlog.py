"""Backlog: which message of a stored channel goes next, and whether it is in memory or on disk alone. Pure.

    sent before ......................................................... sent last
    [ handed out | loaded from disk | on disk alone | ready, in memory ]

Memory has no more than `keep` messages of each kind, however many are on disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Literal

from taktora_trio.channels import Envelope
from taktora_trio.connectors.storing.catching_up import SHARE

__all__ = ["Backlog"]


class Backlog:
    """The messages of one channel that were not handed to a connection. It knows nothing of disk or time."""

    def __init__(self, keep: int, *, newest_first: bool = False) -> None:
        self._keep = keep
        self._newest_first = newest_first
        self._ready: deque[Envelope] = deque()
        self._loaded: deque[Envelope] = deque()
        self._read_to = 0  # the disk was read up to this number
        self._disk_to = 0  # up to this number, what was not handed out may be on disk alone
        self._waited = 0  # of the first in `_ready`, so many have waited for a connection
        self._live_in_a_row = 0

    def __repr__(self) -> str:
        return f"Backlog(loaded={len(self._loaded)}, on_disk={self.is_on_disk}, ready={len(self._ready)})"

    def resume(self, last: int) -> None:
        """Go on with what an earlier gateway has left on disk, up to this number, before what is in memory."""
        self._disk_to = max(self._disk_to, last)

    def put(self, envelope: Envelope) -> None:
        """Add a message that was just sent."""
        self._ready.append(envelope)

    def renumber(self, envelopes: Iterable[Envelope]) -> None:
        """Replace what is ready by these: the same, under other numbers."""
        self._ready = deque(envelopes)
        self._waited = min(self._waited, len(self._ready))

    def spill(self, stored: int, *, all_of_it: bool = False) -> None:
        """Leave to the disk what is too much for memory, if it is there: all up to `stored` are."""
        ready, keep = self._ready, 0 if all_of_it else self._keep
        while len(ready) > keep and ready[0].header.sequence_number <= stored:
            self._leave(ready.popleft())

    def connected(self, stored: int) -> None:
        """A connection has come. What has waited for it is the backlog; what is sent from now on is not."""
        if self._newest_first:
            self.spill(stored, all_of_it=True)
        else:
            self._waited = len(self._ready)

    @property
    def ready(self) -> Iterable[Envelope]:
        """What is in memory, as it was sent."""
        return self._ready

    @property
    def is_on_disk(self) -> bool:
        """True if there may be messages that are on disk alone."""
        return self._read_to < self._disk_to

    @property
    def is_behind(self) -> bool:
        """True if there is a backlog: not only messages that were just sent."""
        return bool(self._loaded or self._waited) or self._read_to < self._disk_to

    @property
    def reads_after(self) -> int | None:
        """The number behind which the disk is to be read, if there is something and memory has room for it."""
        return self._read_to if self.is_on_disk and 2 * len(self._loaded) <= self._keep else None

    def load(self, envelopes: Iterable[Envelope], read_to: int | None) -> None:
        """Add what was read; the disk was read up to `read_to`, or to its end where that is `None`."""
        self._loaded.extend(one for one in envelopes if one.header.sequence_number <= self._disk_to)
        self._read_to = self._disk_to if read_to is None else min(read_to, self._disk_to)

    def next(self, *, allows_backlog: bool = True) -> Literal["live", "backlog"] | None:
        """Return what the next message is; `None` if there is none, or if it is yet to be read from disk."""
        if self._newest_first:
            if self._loaded and allows_backlog and (not self._ready or self._live_in_a_row >= SHARE - 1):
                return "backlog"
            return "live" if self._ready else None
        if self.is_behind:
            return "backlog" if (self._loaded or not self.is_on_disk) and allows_backlog else None
        return "live" if self._ready else None

    def take_live(self) -> Envelope | None:
        """Hand out the next message if there is no backlog: the short way."""
        if self._loaded or self._waited or self._read_to < self._disk_to or not self._ready:
            return None
        return self._ready.popleft()

    def take(self, kind: Literal["live", "backlog"]) -> Envelope:
        """Hand out the message that `next` has told of."""
        if kind == "live":
            self._live_in_a_row += 1
            envelope = self._ready.popleft()
        else:
            envelope = self._take_of_backlog()
        return envelope

    def oldest(self, stored: int) -> Envelope | None:
        """Return the one that was sent first, of those not handed out; `None` if it is not in memory, or not stored."""
        if self._loaded:
            return self._loaded[0]
        if self.is_on_disk or not self._ready or self._ready[0].header.sequence_number > stored:
            return None
        return self._ready[0]

    def drop_oldest(self) -> None:
        """Forget the message that `oldest` has returned."""
        self._take_of_backlog()

    def _take_of_backlog(self) -> Envelope:
        self._live_in_a_row = 0
        if self._loaded:
            return self._loaded.popleft()
        self._waited = max(0, self._waited - 1)
        return self._ready.popleft()

    def _leave(self, envelope: Envelope) -> None:
        number = envelope.header.sequence_number
        if not self.is_on_disk and not self._newest_first:
            self._read_to = max(self._read_to, number - 1)  # all before it were handed out, or are loaded
        self._disk_to = max(self._disk_to, number)
        self._waited = max(0, self._waited - 1)
