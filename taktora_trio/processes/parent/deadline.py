"""The time that a supervised process has until it must give its next sign. Pure: it knows no clock and no process."""

from __future__ import annotations

import math
from typing import Literal

import attrs

from taktora_trio.processes.parent.notify_socket import Notification
from taktora_trio.supervision.policy import RestartPolicy

__all__ = ["Deadline"]

_STOPPING = 1.0  # seconds that a process has at least to end, once it says that it stops


@attrs.define
class Deadline:
    """The deadline of one incarnation: to be ready, then to give signs of life, then to end."""

    policy: RestartPolicy
    phase: Literal["starting", "ready", "stopping"] = "starting"
    was_ready: bool = False
    period: float = attrs.field(init=False)
    """The seconds that it was given last."""
    left: float = attrs.field(init=False)
    """The seconds that are left."""

    def __attrs_post_init__(self) -> None:
        self.period = self.left = self.policy.start_timeout

    @property
    def _watchdog(self) -> float:
        return math.inf if self.policy.watchdog is None else self.policy.watchdog

    def hear(self, news: Notification, waited: float) -> bool:
        """Take a notification in, `waited` seconds after the last one that counted. Returns true if this one counts.

        Once the process stops, nothing counts: it has to end.
        """
        if self.phase == "stopping":
            return False
        if news.stopping and (self.phase == "starting" or self.policy.watchdog is not None):
            self.phase = "stopping"
            self.period = self.left = max(2 * self.policy.stop_grace, _STOPPING)
        elif self.phase == "starting" and news.ready:
            self.phase, self.was_ready = "ready", True
            self.period = self.left = self._watchdog
        elif self.phase == "ready" and news.alive:
            self.period = self.left = self._watchdog
        elif self.phase == "starting" and news.extend > 0:
            self.period = news.extend
            self.left = max(self.left - waited, news.extend)
        else:
            return False
        return True

    def missed(self, silent: float) -> str:
        """Say what it has missed, after `silent` seconds without a sign that counted."""
        match self.phase:
            case "stopping":
                return f"no end within {self.period:g} s after it said that it stops"
            case "ready":
                return f"no sign of life for {silent:.1f} s"
            case _:
                return f"not ready within {self.period:g} s"
