"""Catching up: which channel may publish of its backlog now. Pure: the time is an argument.

Channels of a higher priority go first. A lower one still gets a share, one message in `SHARE`, so that a channel that
never gets done starves nobody; the same goes for the backlog beside what is sent now, where the newest goes first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["SHARE", "CatchUp"]

SHARE = 10
"""Of so many messages one is for whoever is behind the others."""
_BURST = 0.1  # seconds' worth of messages that may go at once
_NOTHING = 1e-6  # of a message: less than this is how floats are added up
_IDLE = 1.0  # seconds after which a channel that could publish, and does not, holds up no other


class CatchUp:
    """The backlogs of one connector's channels."""

    def __init__(self, priorities: Mapping[str, int], rate: float | None = None) -> None:
        """`rate` is in messages per second, of all channels together."""
        self._priorities = priorities
        self._rate = rate
        self._burst = 1.0 if rate is None else max(1.0, rate * _BURST)
        self._tokens, self._filled_at = self._burst, -math.inf
        self._waiting: dict[str, float] = {}  # channels with a backlog, and when each took one last
        self._shares: dict[str, int] = {}  # messages of higher ones since the last of this one

    def begins(self, channel: str, now: float) -> None:
        """The channel has a backlog, and a connection to publish it by."""
        self._waiting.setdefault(channel, now)
        self._shares.setdefault(channel, 0)

    def ends(self, channel: str) -> None:
        """The channel has no backlog any more, or no connection."""
        self._waiting.pop(channel, None)
        self._shares.pop(channel, None)

    def delay(self, channel: str, now: float) -> float:
        """Return the seconds until the channel may take one more, 0 for now. It may be called again at any time."""
        if self._is_held_up(channel, now):
            return _IDLE / 10
        if self._rate is None:
            return 0.0
        self._fill(now)
        missing = 1 - self._tokens
        return missing / self._rate if missing > _NOTHING else 0.0

    def take(self, channel: str, now: float) -> None:
        """The channel takes one."""
        if self._rate is not None:
            self._fill(now)
            self._tokens -= 1
        if len(self._waiting) > 1:
            mine = self._priorities.get(channel, 0)
            for other in self._shares:
                if self._priorities.get(other, 0) < mine:
                    self._shares[other] += 1
        if channel in self._waiting:
            self._waiting[channel] = now
            self._shares[channel] = 0

    def _is_held_up(self, channel: str, now: float) -> bool:
        if len(self._waiting) < 2 or self._shares.get(channel, 0) >= SHARE:
            return False
        mine = self._priorities.get(channel, 0)
        return any(self._priorities.get(one, 0) > mine and now - at < _IDLE for one, at in self._waiting.items())

    def _fill(self, now: float) -> None:
        if self._rate is not None:
            self._tokens = min(self._burst, self._tokens + self._rate * max(0.0, now - self._filled_at))
            self._filled_at = now
