"""The work at one request: the handler is called, and its reply is sent; or what was replied before is sent again."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
import trio

from taktora_trio.channels import Metadata
from taktora_trio.channels.codec import PayloadCodec
from taktora_trio.channels.exchange import Exchange
from taktora_trio.channels.signs import failure, interim
from taktora_trio.errors import MessageError, RequestFailed, collapse, is_worth_logging, summary
from taktora_trio.host.asking.answered import Answered, Begun, Key, Reply
from taktora_trio.host.asking.request import Request
from taktora_trio.host.stamps import CONTENT_ENCODING
from taktora_trio.host.taken import Taken
from taktora_trio.host.writer import ChannelWriter

__all__ = ["Counts", "Handler", "Work", "Workshop"]

Q = TypeVar("Q")
A = TypeVar("A")
Handler: TypeAlias = Callable[[Request[Q]], Awaitable[A]]
log = logging.getLogger(__name__)


class Counts(msgspec.Struct):
    """As in `ResponderStatistics`."""

    requests: int = 0
    answered: int = 0
    failed: int = 0
    repeated: int = 0
    expired: int = 0
    unanswerable: int = 0


class Workshop(Generic[Q, A]):
    """What all work at the requests of an exchange needs."""

    def __init__(
        self,
        exchange: Exchange[Q, A],
        handler: Handler[Q, A],
        writer: ChannelWriter[A],
        codec: PayloadCodec,
        answered_before: Answered,
        counts: Counts,
    ) -> None:
        self.name = exchange.name
        self.handler = handler
        self._encode = codec.encoder(exchange.reply_type)
        self._encoding_of = codec.content_encoding()
        self.max_metadata = exchange.max_metadata
        self.answered_before = answered_before
        self.counts = counts
        self._writer = writer
        self._turn = trio.StrictFIFOLock()  # few loans may be open at once

    def encoded(self, value: A) -> Reply:
        """Return a reply with this value. Raises `CodecError`."""
        payload = bytes(self._encode(value))
        encoding = "" if self._encoding_of is None else self._encoding_of(payload)
        return Reply(payload, ((CONTENT_ENCODING, encoding),) if encoding else ())

    async def send(self, key: Key, deadline: float, reply: Reply) -> None:
        """Send a reply, which lives as long as somebody waits for it. Raises `MessageError`."""
        topic, correlation_id = key
        async with self._turn:
            left = None if deadline == math.inf else max(1, math.ceil(deadline - trio.current_time()))
            metadata = Metadata(message_expiry=left, user_properties=reply.properties)
            loan = self._writer.loan(
                len(reply.payload), topic=topic, correlation_id=correlation_id, metadata=metadata
            )  # not `send`, for it is encoded already
            async with loan as view:
                view[:] = reply.payload

    def too_late(self) -> None:
        self.counts.expired += 1
        if is_worth_logging(self.counts.expired):
            log.warning(
                "exchange %s: requests are too late, %d so far",
                self.name,
                self.counts.expired,
                extra={"event": "request-late", "exchange": self.name, "count": self.counts.expired},
            )


class Work(Generic[Q, A]):
    """One request, from its beginning to its last reply."""

    def __init__(
        self, workshop: Workshop[Q, A], taken: Taken[Q], key: Key, deadline: float, begun: Begun | None
    ) -> None:
        """`begun` is what is known of a request that comes again."""
        self.key = key
        self._workshop = workshop
        self._counts = workshop.counts
        self._taken = taken
        self._deadline = deadline
        self._begun = begun
        self._interim = 0

    async def do(self) -> None:
        """Answer the request, unless its deadline comes first. Raises nothing but what ends this process."""
        scope = trio.CancelScope(deadline=self._deadline)
        try:
            with scope:
                if self._begun is None:
                    await self._answer()
                else:
                    for reply in self._begun.replies.copy():
                        await self._workshop.send(self.key, self._deadline, reply)
        except Exception:  # of a handler, in a group with its cancellation; or a repeated reply has no room
            log.exception(
                "exchange %s: a request has failed, and can't be answered",
                self._workshop.name,
                extra={"event": "request-failed", "exchange": self._workshop.name},
            )
        if scope.cancelled_caught:
            self._workshop.too_late()
        if self._begun is None:
            self._workshop.answered_before.finish(self.key, self._deadline, trio.current_time())

    async def _answer(self) -> None:
        self._counts.requests += 1
        try:
            await self._send(await self._reply())
            self._counts.answered += 1
            return
        except Exception as exc:
            cause = collapse(exc)
            if isinstance(cause, RequestFailed):
                reason = str(cause)
            else:
                log.exception(
                    "exchange %s: a request has failed",
                    self._workshop.name,
                    extra={"event": "request-failed", "exchange": self._workshop.name},
                )
                reason = summary(exc)
        self._counts.failed += 1
        try:
            await self._send(Reply(b"", failure(reason, self._workshop.max_metadata)))
        except MessageError as exc:
            log.error(
                "exchange %s: a requester can't be told of a failure: %s",
                self._workshop.name,
                exc,
                extra={"event": "failure-untold", "exchange": self._workshop.name},
            )

    async def _reply(self) -> Reply:
        """Call the handler, and return its reply. Raises whatever that does, and what the reply's encoder does."""
        if self._taken.error is not None:
            raise RequestFailed(f"the request can't be read: {self._taken.error}")
        request = Request(self._taken.received, self._deadline, self._report)
        return self._workshop.encoded(await self._workshop.handler(request))

    async def _report(self, reply: Any) -> None:
        self._interim += 1
        encoded = self._workshop.encoded(reply)
        signed = Reply(encoded.payload, encoded.properties + interim(self._interim))
        await self._send(signed)

    async def _send(self, reply: Reply) -> None:
        await self._workshop.send(self.key, self._deadline, reply)
        self._workshop.answered_before.add(self.key, reply)
