"""Handover: what an app was given of a channel, is done with, and gives up, as the gateway is told of it."""

from __future__ import annotations

import logging
from typing import Any, Generic, TypeVar
from zlib import crc32

from taktora_trio.channels import Header
from taktora_trio.errors import is_worth_logging, leaves
from taktora_trio.escaping import escaped
from taktora_trio.host.in_hand import Arrival, InHand
from taktora_trio.host.taken import Taken
from taktora_trio.transport.deliveries import DEAD, DONE, WHOLE, Deliveries, identity_of
from taktora_trio.transport.subscriber import EnvelopeSubscriber

__all__ = ["Handover", "is_failure", "resume"]

T = TypeVar("T")
log = logging.getLogger(__name__)


def is_failure(exc: BaseException) -> bool:
    """True if something went wrong, and false if somebody wanted it to end: by a cancellation, Ctrl-C, or `sys.exit()`.

    `sys.exit(1)` says itself that something went wrong, and a supervisor such as systemd starts the app again after it.
    """
    return any(
        leaf.code not in (None, 0) if isinstance(leaf, SystemExit) else isinstance(leaf, Exception)
        for leaf in leaves(exc)
    )


class Handover(Generic[T]):
    """Decides whether a message is for the app, and lets the gateway go on behind those that the app is done with.

    It keeps three records in step: `InHand` in memory, the cursor of the port, which the gateway follows, and
    `Deliveries`, which outlive the reader.
    """

    def __init__(
        self, port: EnvelopeSubscriber, deliveries: Deliveries | None, hand: InHand[Taken[T]], max_deliveries: int
    ) -> None:
        self.hand = hand
        self.redelivered = self.dead = 0
        self.has_left = False
        self._port = port
        self._deliveries = deliveries  # `None` if a message is acknowledged before the app has it
        self._max_deliveries = max_deliveries

    # What comes

    def admit(self, header: Header, payload: memoryview, topic: str, deliveries: Deliveries) -> int:
        """Return how often the app is given the message now, which is then the current one; 0 if it is not."""
        hand, number, delivery_id = self.hand, header.sequence_number, header.delivery_id
        if header.at_most_once:
            return self._admit_once(header, deliveries)
        length = len(payload)
        # The second is the same as the first, without a call.
        identity = identity_of(payload, topic) if topic or length > WHOLE else crc32(payload) | length << 32
        if number == hand.taken + 1 and not header.redelivered and not hand.done_before:
            hand.taken = number
            if delivery_id:
                hand.remember(number, identity, delivery_id)
        elif not self._is_new(header, identity, deliveries):
            return 0
        hand.current = number
        count = deliveries.handing_over(number, identity, delivery_id)
        if count == 1:
            return 1
        if (failures := deliveries.failures(number)) >= self._max_deliveries:
            deliveries.not_given(number)
            self.give_up(number, f"the app was given it {failures} times, and was never done with it", delivery_id)
            return 0
        self.redelivered += 1
        return count

    def _admit_once(self, header: Header, deliveries: Deliveries) -> int:
        """The same for a message that nobody keeps: neither a repeat nor a later reader is to be told of it."""
        hand, number = self.hand, header.sequence_number
        if number == hand.taken + 1 and not hand.done_before:
            hand.taken = number
        elif not self._is_new(header, 0, deliveries):
            return 0
        hand.current = number
        deliveries.handing_over_once(number)
        return 1

    def _is_new(self, header: Header, identity: int, deliveries: Deliveries) -> bool:
        hand, number = self.hand, header.sequence_number
        if hand.taken > self._port.last_used:  # a gateway has found its cursor broken, and counts anew
            hand.taken = number - 1
        arrival = hand.arrives(number, identity, header.delivery_id, redelivered=header.redelivered)
        if arrival is Arrival.NEW:
            return True
        if arrival is Arrival.REPEAT and (reason := hand.reason_of_repeat(number)) is not None:
            deliveries.bury(number, reason)
        if arrival is not Arrival.STALE:
            self.release()
        return False

    def count_unreadable(self) -> None:
        """An envelope has come that can't be read: else it would take up the window for good."""
        hand = self.hand
        if self._deliveries is not None and hand.taken < self._port.taken:
            hand.taken = hand.current = self._port.taken

    # What the app is done with

    def finish(self) -> None:
        """The app is done with the current message."""
        hand = self.hand
        if hand.pieces:
            self.done(hand.current)
            return
        hand.current = 0
        if self._deliveries is not None and not self.has_left and self._port.done_with(hand.taken):
            self._deliveries.done_up_to(hand.taken)

    def done(self, number: int) -> None:
        self.hand.done(number)
        if self._deliveries is not None and not self.has_left:
            if number > self.hand.done_up_to:
                self._deliveries.done(number)
            self.release()

    def release(self) -> None:
        """Let the gateway have all up to the first message that is in hand."""
        if self._deliveries is not None:
            up_to = self.hand.done_up_to
            if self._port.done_with(up_to):
                self._deliveries.done_up_to(up_to)

    def tell_done(self) -> None:
        """Nothing comes now, so nothing else would tell the gateway what the app is done with."""
        if self._deliveries is not None and self._port.tell_done():
            self._deliveries.done_up_to(self._port.released)

    def give_up(self, number: int, reason: str, delivery_id: int) -> None:
        """Send a message to the dead letters. The gateway has it, and puts it there."""
        self.dead += 1
        name = self._port.spec.name
        if self._deliveries is None:
            log.error(
                "%s: message %d is discarded, for it was acknowledged on arrival: %s",
                name,
                number,
                escaped(reason),
                extra={"event": "inbound-given-up", "service": name},
            )
        else:
            for each in self.hand.bury(number, reason, delivery_id):
                self._deliveries.bury(each, reason)
            if is_worth_logging(self.dead):
                text = "%s: message %d goes to the dead letters (%d so far): %s"
                log.error(
                    text,
                    name,
                    number,
                    self.dead,
                    escaped(reason),
                    extra={"event": "message-given-up", "service": name, "count": self.dead},
                )
        self.done(number)

    def leave(self, exc: BaseException | None) -> None:
        """The block of the reader is left. What the app was not done with goes to the next reader."""
        hand, deliveries = self.hand, self._deliveries
        if deliveries is not None:
            if hand.current and exc is None:
                self.finish()
            elif hand.current and exc is not None and not is_failure(exc):
                deliveries.excuse(hand.current)
            for number, taken in hand.pieces.items():
                if taken.is_excusable:
                    deliveries.excuse(number)
            self.tell_done()
        self.has_left = True


def resume(port: EnvelopeSubscriber, deliveries: Deliveries) -> InHand[Any]:
    """Go on where the reader before has stopped."""
    behind = port.resumes_behind
    earlier = deliveries.resume(behind, port.last_used)
    done = [handed.number for handed in earlier if handed.state in (DONE, DEAD) and handed.number > behind]
    hand = InHand[Any](behind, port.may_come_again, done, port.acknowledged_bounds)
    for handed in earlier:
        if handed.delivery_id and port.may_come_again(handed.number):
            hand.remember(handed.number, handed.identity, handed.delivery_id)
            if handed.state == DEAD:
                hand.bury(handed.number, deliveries.reason_of(handed.number) or "", handed.delivery_id)
    return hand
