"""A channel whose messages are acknowledged: each is a query, and the reply is the acknowledgement.

Zenoh has nobody who keeps a message. So the channel keeps it here, and asks again until somebody has replied: in order,
from the first that was not answered (go back). Nobody has to be there when it is published.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeAlias

import trio

from taktora_trio.channels import Envelope
from taktora_trio.connectors.connection import OnDone
from taktora_trio.connectors.expiry import EXPIRED
from taktora_trio.connectors.zenoh.queries.numbering import AGAIN, NUMBER, SENDER, Numbering
from taktora_trio.connectors.zenoh.queries.repeating import PATIENCE, RETRY, end_of_life, with_life_left
from taktora_trio.connectors.zenoh.session import Quality, Session
from taktora_trio.escaping import escaped

__all__ = ["AcknowledgedChannel", "Carry"]

Carry: TypeAlias = Callable[[Envelope, Iterable[tuple[str, bytes]]], tuple[str, bytes]]
"""Returns the encoding, and the attachment with these pairs beside those of the envelope: `Carrier.carry`."""

_SAID_AFTER = 5  # setbacks in a row, which take about half a second
_LONGEST = 200  # characters of a reason


class AcknowledgedChannel:
    """One channel on one connection. What was not answered when that ends, the next connection publishes again.

    A receiver takes a message of the channel only if it has had all before it that are on their way. So if one is lost,
    or refused for want of room, those behind it end without a reply, too, and come again in their order.

    One whose query does not end is asked again by itself, at longer and longer intervals: a receiver that has it in
    hand answers the latest query, and one that it never reached gets it.
    """

    def __init__(
        self,
        key: str,
        quality: Quality,
        session: Session,
        sender: str,
        carry: Carry,
        on_trouble: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`sender` names this channel of this gateway's process to receivers. `on_trouble` is called again and again
        while messages wait and nobody takes them.
        """
        self.key = key
        self._quality = quality
        self._session = session
        self._name = sender
        self._sender = (SENDER, sender.encode())
        self._carry = carry
        self._on_trouble = on_trouble
        self._unanswered: dict[int, _Sent] = {}  # in the order of their numbers
        self._has_receiver = False  # until it is known
        self._arrivals = 0  # counts how often somebody was there who had not been
        self._is_stalled = False
        self._is_set_back = False  # or else a query was overdue, and is to be asked again
        self._stalled = trio.Event()
        self._setbacks = 0  # since the last reply
        self._pause = trio.CancelScope()  # until the next attempt

    def publish(self, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
        """Publish it, as `Connection.publish` says."""
        before = next(reversed(self._unanswered), 0)
        sent = _Sent(self, envelope, on_done, again)
        self._unanswered[envelope.header.sequence_number] = sent
        if self._is_stalled:
            return
        if self._has_receiver:
            self._ask(sent, before)
        else:
            self._stall()

    def matching(self, has_receiver: bool) -> None:
        """Be told whether anybody is there who may take its messages."""
        if has_receiver and not self._has_receiver:
            self._arrivals += 1
            # What was sent to see whether somebody is there ends soon if it came too early. The rest comes behind it.
            is_looking = any(sent.is_asked and sent.is_a_look for sent in self._unanswered.values())
            self._try_within(RETRY.delay(0) if is_looking else 0)
        self._has_receiver = has_receiver

    @property
    def on_their_way(self) -> int:
        """The number of messages that were sent, and of which it is not known yet whether somebody takes them."""
        return sum(sent.is_asked for sent in self._unanswered.values())

    @property
    def waiting(self) -> int:
        """The number of messages that wait to be sent, or sent again."""
        return len(self._unanswered) - self.on_their_way

    async def serve(self) -> None:
        """Serve until cancelled: send again what nobody has replied to."""
        while True:
            await self._stalled.wait()
            with self._pause:
                await trio.sleep_forever()
            self._drop_expired()
            if self._is_set_back:
                self._note_setback()
            self._go_back()

    def _note_setback(self) -> None:
        if self._setbacks > _SAID_AFTER and self._unanswered:
            what = "its messages are not taken" if self._has_receiver else "nobody is there for its messages"
            self._on_trouble(f"{what}: {len(self._unanswered)} wait")
        self._setbacks += 1

    def _go_back(self) -> None:
        """Send again all that is not on its way; or only the first, to see, while nobody seems to be there."""
        self._stalled, self._is_stalled = trio.Event(), False
        if self._unanswered and not self._has_receiver:
            self._stall()
        before = 0
        for number, sent in list(self._unanswered.items()):
            if not sent.is_asked:
                self._ask(sent, before)
            if self._is_stalled:
                break
            before = number

    def _ask(self, sent: _Sent, before: int) -> None:
        envelope = sent.envelope
        number = envelope.header.sequence_number
        pairs = [self._sender, (NUMBER, Numbering(number, before, next(iter(self._unanswered))).encoded())]
        if sent.again:
            pairs.append((AGAIN, b""))
        if sent.expires < math.inf:
            envelope = with_life_left(envelope, sent.expires)
        encoding, attachment = self._carry(envelope, pairs)
        patience = PATIENCE.delay(sent.repeats) if sent.repeats else PATIENCE.initial
        sent.overdue, sent.is_overdue = trio.current_time() + patience, False
        sent.is_asked, sent.is_a_look, sent.arrivals = True, not self._has_receiver, self._arrivals
        self._session.ask_in_turn(
            self._name,
            envelope.topic,
            envelope.payload,
            self._quality,
            encoding,
            attachment,
            patience,
            sent.answered,
        )

    def _drop_expired(self) -> None:
        now = trio.current_time()
        for number, sent in list(self._unanswered.items()):
            if sent.expires <= now and not (sent.is_asked or sent.is_overdue):
                del self._unanswered[number]
                sent.on_done(number, EXPIRED)

    def _stall(self, *, is_setback: bool = True) -> None:
        self._is_stalled, self._is_set_back = True, is_setback
        delay = RETRY.delay(self._setbacks) if is_setback else 0
        self._pause = trio.CancelScope(deadline=trio.current_time() + delay)
        self._stalled.set()

    def _try_within(self, delay: float) -> None:
        self._pause.deadline = min(self._pause.deadline, trio.current_time() + delay)

    # Called by what was sent

    def is_answered(self, sent: _Sent, refusal: str) -> None:
        """Nothing more is to be done for it."""
        number = sent.envelope.header.sequence_number
        if self._unanswered.pop(number, None) is not None:
            self._setbacks = 0
            if self._is_stalled:
                self._try_within(RETRY.delay(0))
            sent.on_done(number, refusal)

    def is_not_answered(self, sent: _Sent) -> None:
        """Nobody has taken it, though somebody may have had it, and ended."""
        sent.again = sent.again or not sent.is_a_look or sent.arrivals != self._arrivals
        if sent.envelope.header.sequence_number not in self._unanswered:
            return
        if trio.current_time() >= sent.overdue:
            sent.is_overdue = True
            sent.repeats += 1
        if not self._is_stalled:
            self._stall(is_setback=not (sent.is_overdue and self._has_receiver))
        elif sent.is_a_look and self._has_receiver:
            self._try_within(0)


class _Sent:
    """A message, until somebody has replied."""

    __slots__ = (
        "_channel",
        "again",
        "arrivals",
        "envelope",
        "expires",
        "is_a_look",
        "is_asked",
        "is_overdue",
        "on_done",
        "overdue",
        "repeats",
    )

    def __init__(self, channel: AcknowledgedChannel, envelope: Envelope, on_done: OnDone, again: bool) -> None:
        self._channel = channel
        self.envelope = envelope
        self.on_done = on_done
        self.again = again
        """True if somebody may have had it already."""
        self.is_asked = False
        """True while the query for it has not ended."""
        self.is_a_look = False
        """True if nobody seemed to be there when it was sent."""
        self.arrivals = 0
        """How often somebody had come by then."""
        self.expires = end_of_life(envelope)
        self.overdue = math.inf
        """When the query for it is taken for lost."""
        self.is_overdue = False
        """True if it was, so that somebody may have the message in hand, and nothing was asked since."""
        self.repeats = 0
        """How often it was."""

    def answered(self, answer: bytes | None) -> None:
        self.is_asked = False
        if answer is None:
            self._channel.is_not_answered(self)
        else:
            refusal = escaped(answer.decode(errors="replace"), _LONGEST) if answer else ""
            self._channel.is_answered(self, refusal)
