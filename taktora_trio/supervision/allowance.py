"""An allowance for events: `burst` at once, and after those `rate` a second."""

from __future__ import annotations

import trio

__all__ = ["Allowance"]

_ROUNDING = 1e-6  # tokens: a task that waits for `delay` gets one, though its times are rounded


class Allowance:
    """A token bucket: it holds `burst` tokens, and gets `rate` new ones a second."""

    def __init__(self, burst: int, rate: float) -> None:
        self._burst, self._rate = burst, rate
        self._tokens, self._at = float(burst), trio.current_time()

    def take(self, count: int) -> bool:
        """Take `count` tokens and return true; if there are fewer, take all of them and return false."""
        now = trio.current_time()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        granted = count <= self._tokens + _ROUNDING
        self._tokens = max(0.0, self._tokens - count) if granted else 0.0
        return granted

    @property
    def delay(self) -> float:
        """Seconds until there is a token."""
        return max(0.0, (1.0 - self._tokens) / self._rate - (trio.current_time() - self._at))
