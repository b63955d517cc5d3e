"""When a connection that failed or was lost is tried again, and what is said of it. Pure: the bridge carries it out."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable

import attrs

from taktora_trio.connectors.connection import ConnectRefused
from taktora_trio.connectors.retry import Retry
from taktora_trio.errors import ConnectorError, summary
from taktora_trio.escaping import escaped
from taktora_trio.supervision.backoff import Backoff

__all__ = ["REFUSED", "History", "Retry", "after"]

REFUSED = Backoff(initial=30.0, maximum=300.0, factor=2.0, jitter=0.2)
"""The delays after a refusal that lasts until somebody changes something. They are long, for a login that fails too
often may lock an account."""

_STAYED = 2
"""A connection has stayed up if it lasted so many times the next delay. Two clients that throw each other out do not
reach that: each is left alone for as long as the other's delay."""


@attrs.frozen
class History:
    """Counts of failures since a connection last stayed up."""

    attempts: int = 0
    refusals: int = 0
    """In a row: refusals that last."""
    losses: int = 0
    """In a row: connections that came up and were soon lost."""


def after(
    history: History,
    failure: Exception,
    uptime: float | None,
    backoff: Backoff,
    hint: Callable[[Exception, int], str] = lambda failure, losses: "",
    random: Callable[[], float] = random_module.random,
) -> tuple[History, Retry]:
    """Decide what follows this failure of a connection that had been up for `uptime` seconds; `None` if it never was.

    The delays grow with each failure, and start over once a connection has stayed up. `hint(failure, losses)` is what
    the protocol knows of the cause.
    """
    if uptime is not None and uptime >= _STAYED * backoff.delay(history.attempts, lambda: 0.5):
        history = History()
    refusals = history.refusals + 1 if isinstance(failure, ConnectRefused) else 0
    losses = 0 if uptime is None else history.losses + 1
    delay = backoff.delay(history.attempts, random)
    if refusals:
        delay = max(delay, REFUSED.delay(refusals - 1, random))
    reason = str(failure) if isinstance(failure, ConnectorError) else escaped(summary(failure))
    if cause := hint(failure, losses):
        reason = f"{reason}: {cause}"
    return History(history.attempts + 1, refusals, losses), Retry(delay, reason, bool(refusals))
