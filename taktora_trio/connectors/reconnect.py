"""When a connection that failed or was lost is tried again, and what is said of it. Pure: the bridge carries it out."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable

import attrs
import msgspec

from taktora_trio.connectors.connection import ConnectFailed, ConnectionLost, ConnectRefused
from taktora_trio.connectors.retry import Retry
from taktora_trio.errors import ConnectorError, summary
from taktora_trio.escaping import escaped
from taktora_trio.supervision.backoff import Backoff

__all__ = ["REFUSED", "History", "Retry", "after", "is_overdue"]

REFUSED = Backoff(initial=30.0, maximum=300.0, factor=2.0, jitter=0.2)
"""The delays after a refusal that lasts until somebody changes something. They are long, for a login that fails too
often may lock an account."""

_STAYED = 2
"""A connection has stayed up if it lasted so many times the next delay. Two clients that throw each other out do not
reach that: each is left alone for as long as the other's delay."""


_OVERLOADED = 4
"""The longest delay is so many times as long while the other side is there and does not answer in time. A fleet that
comes every half minute may be more than it can ever answer: then each attempt costs it work that is given up, and
all stay outside. `python -m benchmarks.fleet` shows it."""


class History(msgspec.Struct, frozen=True):
    """Counts of failures since a connection last stayed up."""

    attempts: int = 0
    refusals: int = 0
    """In a row: refusals that last."""
    losses: int = 0
    """In a row: connections that came up and were soon lost."""
    overdue: int = 0
    """In a row: attempts that the other side accepted and did not answer in time."""


def is_overdue(failure: Exception) -> bool:
    """Return true if the other side was there, and did not answer in time. That is for one that was not up yet."""
    if isinstance(failure, ConnectFailed):
        return failure.overdue
    return isinstance(failure, ConnectionLost) and failure.silent


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
    overdue = history.overdue + 1 if uptime is None and is_overdue(failure) else 0
    if overdue:
        backoff = attrs.evolve(backoff, maximum=_OVERLOADED * backoff.maximum)
    delay = backoff.delay(history.attempts, random)
    if refusals:
        delay = max(delay, REFUSED.delay(refusals - 1, random))
    reason = str(failure) if isinstance(failure, ConnectorError) else escaped(summary(failure))
    if cause := hint(failure, losses):
        reason = f"{reason}: {cause}"
    return History(history.attempts + 1, refusals, losses, overdue), Retry(delay, reason, bool(refusals))
