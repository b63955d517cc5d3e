"""Inbound messages that are lost for good, counted and shown."""

from __future__ import annotations

import logging
from collections.abc import Callable

from taktora_trio.connectors.inbox import DEGRADED_FOR
from taktora_trio.escaping import escaped

__all__ = ["Missed"]

log = logging.getLogger(__name__)


class Missed:
    """Counts them for one connector."""

    def __init__(self, degrade: Callable[[str, float], None]) -> None:
        """`degrade(reason, seconds)` shows it in the health."""
        self.count = 0
        self._degrade = degrade

    def tell(self, count: int, what: str) -> None:
        """So many more are lost, of what this says. It may have a key of others in it."""
        before = self.count
        self.count += count
        if before.bit_length() < self.count.bit_length():  # so a flood is no flood in the log
            log.error(
                "%d inbound messages were missed so far, the last %d: %s",
                self.count,
                count,
                escaped(what),
                extra={"event": "inbound-missed", "count": self.count},
            )
        self._degrade("inbound messages were missed", DEGRADED_FOR)
