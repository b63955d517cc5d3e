"""The other side of an `Exchange`: a query comes as a request, and what the app replies is the reply to the query.

The query waits here until the app has replied. If it is gone by then, since a gateway was killed or a connection lost,
whoever asks will ask again; the app knows the request, and replies once more.
"""

from __future__ import annotations

import itertools
import math
import os

import trio
from msgspec.structs import replace

from taktora_trio.channels import Envelope, Metadata
from taktora_trio.channels.signs import interim_number, reason_of_failure
from taktora_trio.connectors.connection import Incoming, OnDone
from taktora_trio.connectors.zenoh.keys import is_pattern
from taktora_trio.connectors.zenoh.metadata import Carrier, read_beside
from taktora_trio.connectors.zenoh.queries.numbering import AGAIN
from taktora_trio.connectors.zenoh.routing import ZenohRouting
from taktora_trio.connectors.zenoh.session import Question
from taktora_trio.errors import MessageError

__all__ = ["ResponseChannel"]

_MOST = 4096  # queries that wait for their replies
_LOOK_AFTER = 256  # requests: then for those whose time is over


class _Open:
    """A query that waits for its replies."""

    __slots__ = ("expires", "question")

    def __init__(self, question: Question, expires: float) -> None:
        self.question = question
        self.expires = expires


class ResponseChannel:
    """The requests to one channel, and the replies to them, while there is a connection."""

    def __init__(self, requests: ZenohRouting, replies: ZenohRouting, carrier: Carrier) -> None:
        self.key = requests.address
        self._requests, self._replies = requests, replies
        self._carry = carrier.carry
        self._open: dict[tuple[str, bytes], _Open] = {}
        self._anonymous = os.urandom(8).hex()
        self._numbers = itertools.count(1)

    def take(self, question: Question) -> Incoming | None:
        """Return the request that a query brings, for the app; `None` if it is none, and was told so."""
        topic = question.key
        if is_pattern(topic):
            if not question.payload and not question.attachment:
                question.close()  # it wants the values that there are
                return None
            if self._requests.is_pattern:
                question.fail(f"ask on one key: '{topic}' stands for several".encode())
                question.close()
                return None
            topic = self.key
        beside = read_beside(question.encoding, question.attachment)
        metadata, correlation_id = beside.metadata or Metadata(), beside.correlation_id
        if metadata.response_topic:
            try:
                self._replies.check_topic(metadata.response_topic)
            except MessageError as exc:
                question.fail(f"the response key: {exc}".encode())
                question.close()
                return None
        else:  # it asks as all others do, and wants the replies that a query has
            number = str(next(self._numbers))
            own = f"{self._anonymous}-{number}"
            address = self._replies.address
            response = address.replace("$*", own).replace("**", own).replace("*", own)
            metadata = replace(metadata, response_topic=response)
            correlation_id = correlation_id or own.encode()
        self._keep((metadata.response_topic, correlation_id), question, metadata.message_expiry)
        return Incoming(
            topic,
            question.payload,
            reliable=True,
            metadata=metadata,
            correlation_id=correlation_id,
            redelivered=AGAIN in beside.own,
        )

    def publish(self, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
        """Reply to the query, if it is there."""
        key, metadata = (envelope.topic, envelope.header.correlation_id), envelope.metadata
        waits = self._open.get(key)
        if waits is not None:
            question, reason = waits.question, reason_of_failure(metadata)
            if reason is None:
                topic = self.key if is_pattern(question.key) else question.key
                question.reply(topic, envelope.payload, *self._carry(envelope))
            else:
                question.fail(reason.encode())
            if not interim_number(metadata):
                del self._open[key]
                question.close()
        on_done(envelope.header.sequence_number, "")

    def _keep(self, key: tuple[str, bytes], question: Question, expiry: int | None) -> None:
        before = self._open.pop(key, None)
        if before is not None:
            before.question.close()  # whoever asked has asked again
        now = trio.current_time()
        self._open[key] = _Open(question, now + expiry if expiry else math.inf)
        if len(self._open) % _LOOK_AFTER == 0:
            for other, waits in list(self._open.items()):
                if waits.expires <= now:
                    self._open.pop(other).question.close()
        if len(self._open) > _MOST:  # the oldest asks again
            self._open.pop(next(iter(self._open))).question.close()
