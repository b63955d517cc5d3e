"""What an app has in hand of a channel: pure, so that every order of events can be tried.

A gateway numbers the messages that it hands over, and the numbers grow over all gateways. It lets go of a message when
all up to its number are done with. So that is what is worked out here: `InHand.done_up_to`.

When a gateway was killed, the other side sends to the next one what was not acknowledged: messages that the app may
have had. Only the reader knows that without a race, so it is here that a repeat is recognized: the other side says that
it sends it again, it has the delivery id and the content of an earlier one, and that one can't have been acknowledged.
A repeat gets a number of its own, above that of the first. It is done when that one is, since all up to it are.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

__all__ = ["Arrival", "InHand"]

P = TypeVar("P")
_ENDLESS = 2**64


class Arrival(enum.Enum):
    """What a message is that has come."""

    NEW = "to be given to the app"
    STALE = "of a gateway that is gone, and comes again"
    DONE = "the app of an earlier reader was done with it"
    REPEAT = "the app has it, or was done with it"


class InHand(Generic[P]):
    """The messages of one channel that the app has in hand. Each is known by the number under which it came first."""

    def __init__(
        self,
        taken: int,
        may_come_again: Callable[[int], bool],
        done: Iterable[int] = (),
        bounds: Callable[[], tuple[int, int]] = lambda: (_ENDLESS, _ENDLESS),
    ) -> None:
        """`taken` is the number up to which the app of an earlier reader was done with all, and `done` are others that
        it was done with. `may_come_again(number)` says that a message can't have been acknowledged. `bounds()` says the
        same of most without a call for each: those behind the first number may, if they are behind the second one, too.
        """
        self.taken = taken
        """The last number that has come."""
        self.current = 0
        """The message that the app was given by a plain `receive`, and is done with when it asks for the next; 0 for
        none."""
        self.pieces: dict[int, P] = {}
        """Pieces of work: what the app was given besides, in the order in which it came first."""
        self.done_before = set(done)
        self._last_done_before = max(self.done_before, default=0)
        self._may_come_again = may_come_again
        self._bounds = bounds
        self._last: dict[int, int] = {}  # by delivery id: the last number under which it came,
        self._identities: dict[int, int] = {}  # and its identity
        self._first: dict[int, int] = {}  # of a repeat, by its number: the number of the first
        self._repeats: dict[int, int] = {}  # the other way round
        self._buried: dict[int, str] = {}
        self._fewest = 128
        self._limit = 2 * self._fewest

    @property
    def done_up_to(self) -> int:
        """The number up to which the app is done with all."""
        if not self.pieces:
            return self.current - 1 if self.current else self.taken
        first = next(iter(self.pieces))
        return (min(first, self.current) if self.current else first) - 1

    def arrives(self, number: int, identity: int, delivery_id: int, *, redelivered: bool) -> Arrival:
        """Say what this message is. If it is new, hand it over: set `current`, or put it into `pieces`."""
        if number <= self.taken:
            return Arrival.STALE
        self.taken = number
        if self.done_before and number > self._last_done_before:
            self.done_before.clear()  # their gateway is gone: they come again under other numbers
        if number in self.done_before:
            self.done_before.discard(number)
            self._remember(number, identity, delivery_id)
            return Arrival.DONE
        if redelivered and delivery_id and self._identities.get(delivery_id) == identity:
            last = self._last[delivery_id]
            if self._may_come_again(last):
                first = self._first.pop(last, last)
                self._first[number] = first
                self._repeats[first] = number
                self._last[delivery_id] = number
                return Arrival.REPEAT
        self._remember(number, identity, delivery_id)
        return Arrival.NEW

    def remember(self, number: int, identity: int, delivery_id: int) -> None:
        """Know a message again if the other side sends it again."""
        if self._first:
            first = self._first.get(self._last.get(delivery_id, 0), 0)
            if first and not self.is_in_hand(first):
                del self._first[self._repeats.pop(first)]
        self._last[delivery_id] = number
        self._identities[delivery_id] = identity
        if len(self._last) > self._limit:
            self._prune()

    def is_in_hand(self, number: int) -> bool:
        """True if the app was given this message, and is not done with it."""
        return number > 0 and (number == self.current or number in self.pieces)

    def done(self, number: int) -> None:
        """The app is done with this message."""
        if number == self.current:
            self.current = 0
        self.pieces.pop(number, None)

    def bury(self, number: int, reason: str, delivery_id: int) -> list[int]:
        """The message was given up. Return all numbers under which a gateway may know it; `done` comes next."""
        if delivery_id:  # else nobody sends it again
            self._buried[number] = reason
            if len(self._buried) > self._limit:
                self._prune()
        return [number, self._repeats[number]] if number in self._repeats else [number]

    def reason_of_repeat(self, number: int) -> str | None:
        """Return why the message was given up that this one repeats; `None` if it was not."""
        return self._buried.get(self._first.get(number, 0))

    def _remember(self, number: int, identity: int, delivery_id: int) -> None:
        if delivery_id:
            self.remember(number, identity, delivery_id)

    def _prune(self) -> None:
        """Forget what can't come again. So all this stays as small as what is not acknowledged."""
        opened, acknowledged = self._bounds()
        self._last = {
            id_: number
            for id_, number in self._last.items()
            if number > acknowledged or (number <= opened and self._may_come_again(number))
        }
        self._identities = {id_: self._identities[id_] for id_ in self._last}
        last = set(self._last.values())
        self._first = {
            number: first for number, first in self._first.items() if number in last or self.is_in_hand(first)
        }
        self._repeats = {first: number for number, first in self._first.items()}
        may_come_again, last_of = self._may_come_again, self._repeats
        self._buried = {
            number: reason for number, reason in self._buried.items() if may_come_again(last_of.get(number, number))
        }
        self._limit = 2 * max(self._fewest, len(self._last), len(self._buried))
