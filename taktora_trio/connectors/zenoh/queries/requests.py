"""The requests of one `Exchange`: each is a query, whose deadline is that of the request.

Whoever waits for the reply is an app, whose gateway may be killed. So a request is done when its last reply is in the
hands of the app, and not before: until then it is asked again, by this gateway or the next.
"""

from __future__ import annotations

import math
from typing import Any

import trio
from msgspec.structs import replace

from taktora_trio.channels import Envelope, Metadata
from taktora_trio.channels.signs import FAILURE, interim_number
from taktora_trio.connectors.connection import Incoming, OnDone, OnMessage
from taktora_trio.connectors.expiry import EXPIRED
from taktora_trio.connectors.zenoh.metadata import Carrier, read_beside
from taktora_trio.connectors.zenoh.queries.numbering import AGAIN
from taktora_trio.connectors.zenoh.queries.repeating import PATIENCE, RETRY, end_of_life, with_life_left
from taktora_trio.connectors.zenoh.routing import ZenohRouting
from taktora_trio.connectors.zenoh.session import Sample, Session
from taktora_trio.escaping import escaped

__all__ = ["Reply", "RequestChannel"]

_LONGEST = 500  # characters of a reason


class Reply(Incoming, frozen=True, gc=False):
    """A reply to a request of this connection."""

    request: Any = None


class RequestChannel:
    """The requests of one channel on one connection. Each is on its own: they are answered in any order.

    One whose query does not end is asked again, at longer and longer intervals: it may be lost. A responder of ours
    that has the request in hand answers the latest query.
    """

    def __init__(
        self,
        routing: ZenohRouting,
        session: Session,
        carrier: Carrier,
        replies: str,
        own_name: str,
        on_message: OnMessage,
    ) -> None:
        """`replies` is the address of the channel for replies, and `own_name` is what others are to know it by."""
        self.key = routing.address
        self._quality = routing.quality
        self._session = session
        self._carry = carrier.carry
        self._replies, self._own_name = replies, own_name
        self._on_message = on_message
        self._requests: dict[int, _Request] = {}
        self._has_responder = False
        self._news = trio.Event()  # something is due earlier than it was

    def publish(self, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
        """Ask, as `Connection.publish` says. It is done when `acknowledge` is called for its last reply."""
        metadata = envelope.metadata
        if metadata is not None and metadata.response_topic == self._replies:
            envelope = replace(envelope, metadata=replace(metadata, response_topic=self._own_name))
        request = _Request(self, envelope, on_done, again)
        self._requests[envelope.header.sequence_number] = request
        self._ask(request)

    def matching(self, has_responder: bool) -> None:
        """Be told whether anybody is there who may answer."""
        if has_responder and not self._has_responder:
            for request in self._requests.values():
                request.due = 0.0
            self._news.set()
        self._has_responder = has_responder

    def acknowledge(self, reply: Reply) -> None:
        """The app has this reply."""
        request: _Request = reply.request
        if not request.is_answered or interim_number(reply.metadata):
            return
        number = request.envelope.header.sequence_number
        if self._requests.get(number) is request:  # else it is of an earlier connection, and was asked again
            del self._requests[number]
            request.on_done(number, "")

    async def serve(self) -> None:
        """Serve until cancelled: ask again for what was not answered, and give up what is over."""
        while True:
            waiting = [request for request in self._requests.values() if not (request.is_asked or request.is_answered)]
            with trio.move_on_at(min((min(one.due, one.deadline) for one in waiting), default=math.inf)):
                await self._news.wait()
            self._news = trio.Event()
            now = trio.current_time()
            for request in waiting:
                number = request.envelope.header.sequence_number
                if request.deadline <= now:
                    del self._requests[number]
                    request.on_done(number, EXPIRED)
                elif request.due <= now:
                    self._ask(request)

    def _ask(self, request: _Request) -> None:
        envelope, left = request.envelope, request.deadline - trio.current_time()
        envelope = with_life_left(envelope, request.deadline)
        encoding, attachment = self._carry(envelope, ((AGAIN, b""),) if request.again else ())
        request.is_asked = request.again = True
        patience = PATIENCE.delay(request.repeats)
        request.overdue = trio.current_time() + patience
        self._session.ask(
            envelope.topic,
            envelope.payload,
            self._quality,
            encoding,
            attachment,
            max(0.001, min(left, patience)),
            request.replied,
            request.failed,
            request.ended,
        )

    # Called by what was asked

    def came(self, request: _Request, payload: bytes, metadata: Metadata | None) -> None:
        if request.is_answered:
            return  # by another responder
        request.setbacks = 0
        request.is_answered = not interim_number(metadata)
        correlation_id = request.envelope.header.correlation_id
        self._on_message(
            Reply(
                self._replies,
                payload,
                reliable=True,
                metadata=metadata,
                correlation_id=correlation_id,
                request=request,
            )
        )

    def not_answered(self, request: _Request) -> None:
        now = trio.current_time()
        if now >= request.overdue:
            request.due = now
            request.repeats += 1
        else:
            request.due = now + RETRY.delay(request.setbacks)
            request.setbacks += 1
        self._news.set()


class _Request:
    """A request, until its last reply is in the hands of the app."""

    __slots__ = (
        "_channel",
        "again",
        "deadline",
        "due",
        "envelope",
        "is_answered",
        "is_asked",
        "on_done",
        "overdue",
        "repeats",
        "setbacks",
    )

    def __init__(self, channel: RequestChannel, envelope: Envelope, on_done: OnDone, again: bool) -> None:
        self._channel = channel
        self.envelope = envelope
        self.on_done = on_done
        self.again = again
        self.deadline = end_of_life(envelope)
        self.due = 0.0
        self.setbacks = 0
        self.overdue = math.inf
        """When the query for it is taken for lost."""
        self.repeats = 0
        """How often it was."""
        self.is_asked = False
        """True while the query for it has not ended."""
        self.is_answered = False

    def replied(self, reply: Sample) -> None:
        self._channel.came(self, reply.payload, read_beside(reply.encoding, reply.attachment).metadata)

    def failed(self, reason: bytes) -> None:
        shown = escaped(reason.decode(errors="replace"), _LONGEST) or "the responder gave no reason"
        self._channel.came(self, b"", Metadata(user_properties=((FAILURE, shown),)))

    def ended(self) -> None:
        self.is_asked = False
        if not self.is_answered:
            self._channel.not_answered(self)
