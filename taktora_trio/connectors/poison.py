"""Finds the message at which the other side ends the connection, so that it can't block its connector for good. Pure.

Such a message would be published again on each connection, first of all, and end it again. Some losses in a row right
behind the same message make it suspect, but prove nothing: others were on their way too, and networks flap. So in a
*trial* nothing is published for a moment, and then, one by one, what is not acknowledged. A loss behind a message that
was alone proves its guilt where the same connection has taken another one: some take no message at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

__all__ = ["QUIET", "SOON", "Alone", "Suspicion", "after_loss", "after_trial", "in_order"]

LOSSES = 3  # in a row, right behind the same message, before messages are published one by one
SOON = 5.0
"""Seconds within which a loss is right behind a message."""
QUIET = 1.0
"""Seconds that a connection must last by itself, before a loss can be a message's fault."""


class Suspicion(msgspec.Struct, frozen=True):
    """The conclusion from the losses so far."""

    behind: Mapping[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    """By channel the sequence number of its first message not acknowledged, and the losses in a row right behind it."""
    trial: bool = False
    """True if the next connection is to publish one by one what is not acknowledged."""
    suspect: tuple[str, int] | None = None
    """The message, by channel and sequence number, behind which the connection was lost when it was alone, and no other
    was known to pass: in the next trial some come before it."""


class Alone(msgspec.Struct, frozen=True):
    """The message that was on its way alone when a connection was lost."""

    channel: str
    number: int
    """Its sequence number."""
    seconds: float
    """The time between its publishing and the loss."""
    others_pass: bool
    """True if the other side has acknowledged another message on that connection."""


def after_loss(before: Suspicion, heads: Mapping[str, int], uptime: float, *, silent: bool) -> Suspicion:
    """Return what to suspect after the loss of a connection that had been up for so long, and was no trial.

    `heads` are the sequence numbers of the first messages not acknowledged, by channel. Another side that only fell
    `silent` has not ended the connection because of a message.
    """
    if silent:
        return Suspicion()
    behind = {}
    for channel, number in heads.items():
        known, losses = before.behind.get(channel, (number, 0))
        behind[channel] = (number, losses + 1 if known == number and uptime < SOON else 1)
    return Suspicion(behind, trial=any(losses >= LOSSES for _, losses in behind.values()))


def after_trial(before: Suspicion, alone: Alone, *, silent: bool) -> tuple[Suspicion, bool]:
    """Return what to suspect after a loss in a trial, and whether the message is to be set aside."""
    if silent or alone.seconds >= SOON:
        return Suspicion(), False
    if alone.others_pass:
        return Suspicion(trial=True), True
    if before.suspect is not None:
        return Suspicion(), False  # nothing passes: it is not a message's fault
    return Suspicion(trial=True, suspect=(alone.channel, alone.number)), False


def in_order(
    unfinished: Iterable[tuple[str, int]], suspect: tuple[str, int] | None, *, others_pass: bool
) -> list[tuple[str, int]]:
    """Return these in the order in which a trial publishes them, by channel and sequence number.

    Another channel's come before the suspect, and where there is none to tell whether anything passes, the one behind
    it does: the only case in which a channel's order may be broken, if the suspect proves to be innocent.
    """
    unfinished = list(unfinished)
    if suspect not in unfinished:
        return unfinished
    others = [one for one in unfinished if one[0] != suspect[0]]
    channel = [one for one in unfinished if one[0] == suspect[0]]
    if not others and not others_pass:
        channel[:2] = reversed(channel[:2])
    return others + channel
