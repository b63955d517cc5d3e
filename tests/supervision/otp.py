"""The decisions of OTP's supervisor (supervisor.erl) about one child, from its documentation and its source.

Independent of the engine on purpose: the tests hold the one against the other.
"""

from __future__ import annotations

import itertools
from typing import Literal, TypeAlias

import attrs

__all__ = ["Otp", "Verdict"]

Verdict: TypeAlias = Literal["restart", "shutdown", "finish"]


@attrs.define
class Otp:
    """A supervisor with one child. `restart` goes by systemd's names."""

    restart: Literal["always", "on-failure", "never"]  # permanent, transient, temporary
    intensity: int
    period: float
    restarts: list[float] = attrs.field(factory=list)
    """Their times, the newest first."""

    def ended(self, *, failed: bool, now: float) -> Verdict:
        match self.restart:
            case "always":
                return self._add_restart(now)
            case "on-failure":
                return self._add_restart(now) if failed else "finish"
            case "never":
                return "finish"

    def _add_restart(self, now: float) -> Verdict:
        # add_restart/1: [Now | takewhile(fun (R) -> R >= Now - Period end, Restarts)], and terminate beyond MaxR.
        self.restarts = [now, *itertools.takewhile(lambda at: at >= now - self.period, self.restarts)]
        return "restart" if len(self.restarts) <= self.intensity else "shutdown"
