"""The receiver of acknowledged messages: each is a query, which is replied to when the app is done with the message.

It knows a message that its sender sends again, since the reply was lost or took long, and it takes the messages of a
sender in their order. It lives as long as the gateway, over all its connections.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from typing import Any

from taktora_trio.connectors.connection import Incoming
from taktora_trio.connectors.zenoh.metadata import Beside, read_beside
from taktora_trio.connectors.zenoh.queries.numbering import AGAIN, NUMBER, SENDER, Numbering
from taktora_trio.connectors.zenoh.session import Question

__all__ = ["Acknowledging", "Asked"]

_SENDERS = 4096  # that are remembered, besides those of whom a message is in hand
_LONGEST = 1024  # bytes of a sender's name


class Asked(Incoming, frozen=True, gc=False):
    """A message whose sender waits for its acknowledgement."""

    entry: Any = None
    """What `Acknowledging` knows of it."""


class _Entry:
    """A message that the app is not done with, and the query that asks for its acknowledgement: the latest one."""

    __slots__ = ("number", "question", "sender")

    def __init__(self, question: Question, sender: _Sender | None = None, number: int = 0) -> None:
        self.question = question
        self.sender = sender
        self.number = number


class _Sender:
    """What has come from one sender: a channel of one gateway's process."""

    __slots__ = ("in_hand", "last", "missed", "since")

    def __init__(self) -> None:
        self.last = 0
        """The number of the newest message that was taken."""
        self.since = 0
        """Of those behind this number, and up to `last`, all were taken that are not acknowledged by others."""
        self.missed = 0
        """The number of the first one that was not taken, and not yet seen settled; 0 if there is none."""
        self.in_hand: dict[int, _Entry] = {}

    def takes(self, at: Numbering) -> bool:
        """Return whether this new message is to be taken now: not before those that come again."""
        if at.number <= self.last:
            return True  # one that others were to have, and have not
        if at.before <= self.last:
            if not self.last:
                self.since = at.number - 1
        elif self.missed and at.oldest > self.missed:
            self.since = at.number - 1  # others have had what it missed
        else:
            self.missed = self.missed or at.number
            return False
        self.last, self.missed = at.number, 0
        return True

    def is_done_with(self, number: int) -> bool:
        return self.since < number <= self.last and number not in self.in_hand


class Acknowledging:
    """Turns queries into messages, and acknowledges these."""

    def __init__(self) -> None:
        self._senders = OrderedDict[bytes, _Sender]()  # the one heard last is last

    def take(self, question: Question) -> Asked | None:
        """Return the message that the app is to get; `None` for one that it has, had, or is to get later.

        Anybody may send a query. It is always a new message, unless it says where it belongs, as ours do.
        """
        beside = read_beside(question.encoding, question.attachment)
        name, at = beside.own.get(SENDER, b""), Numbering.decoded(beside.own.get(NUMBER, b""))
        if at is None or not name or len(name) > _LONGEST:
            if not question.payload and not question.attachment:
                question.close()  # it wants a value that somebody keeps
                return None
            return self._asked(question, _Entry(question), beside)
        sender = self._sender(name)
        if (known := sender.in_hand.get(at.number)) is not None:
            known.question.close()
            known.question = question
            return None
        if sender.is_done_with(at.number):
            _reply(question)
            return None
        if not sender.takes(at):
            question.close()
            return None
        entry = sender.in_hand[at.number] = _Entry(question, sender, at.number)
        delivery_id = 1 + (zlib.crc32(name) + at.number) % 65_535
        return self._asked(question, entry, beside, AGAIN in beside.own, delivery_id)

    def acknowledge(self, message: Asked) -> None:
        """Reply to the query: the app is done with its message."""
        entry: _Entry = message.entry
        if entry.sender is not None:
            entry.sender.in_hand.pop(entry.number, None)
        _reply(entry.question)

    def _sender(self, name: bytes) -> _Sender:
        senders = self._senders
        sender = senders.get(name)
        if sender is not None:
            senders.move_to_end(name)
            return sender
        if len(senders) >= _SENDERS:
            oldest = next((one for one, known in senders.items() if not known.in_hand), None)
            if oldest is not None:
                del senders[oldest]
        sender = senders[name] = _Sender()
        return sender

    @staticmethod
    def _asked(
        question: Question,
        entry: _Entry,
        beside: Beside,
        redelivered: bool = False,
        delivery_id: int = 0,
    ) -> Asked:
        return Asked(
            question.key,
            question.payload,
            reliable=True,
            metadata=beside.metadata,
            correlation_id=beside.correlation_id,
            redelivered=redelivered,
            delivery_id=delivery_id,
            entry=entry,
        )


def _reply(question: Question) -> None:
    question.reply(question.key, b"")
    question.close()
