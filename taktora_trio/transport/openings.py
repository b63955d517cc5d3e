"""What each gateway had acknowledged at its end, as far as a reader has seen them come. Pure."""

from __future__ import annotations

__all__ = ["Openings"]

_MOST = 8


class Openings:
    """Remembers where gateways have begun.

    A gateway acknowledges what it has handed over itself. So whether a message of one that is gone may have been
    acknowledged is told by what that one had acknowledged, and not by a later one's.
    """

    def __init__(self) -> None:
        self._openings: list[tuple[int, int]] = []

    def may_come_again(self, number: int, opened: int, left: int, acknowledged: int) -> bool:
        """True unless the acknowledgement of this message may have left, so that its delivery id may be another's.

        The present gateway has begun behind `opened`, when `left` was acknowledged, and now `acknowledged` is. If
        `left` is above `opened`, the other side has forgotten all that it had sent.
        """
        openings = self._openings
        if not openings or openings[-1] != (opened, left):
            if left > opened:
                openings.clear()
            openings.append((opened, left))
            del openings[:-_MOST]  # for the oldest messages the next one's answer will do: more may be acknowledged
        for before, done in openings:
            if number <= before:
                return number > done
        return number > acknowledged
