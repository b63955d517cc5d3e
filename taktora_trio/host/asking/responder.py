"""Responder: the end of an `Exchange` at which an app answers, by a handler that is called once for each request."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar

import attrs
import trio

from taktora_trio.channels.codec import PayloadCodec
from taktora_trio.channels.exchange import Exchange
from taktora_trio.channels.signs import seconds_left
from taktora_trio.checks import is_async_function
from taktora_trio.errors import ConfigError, MessageError, TransportError, is_worth_logging
from taktora_trio.escaping import escaped
from taktora_trio.host.asking.answered import Answered
from taktora_trio.host.asking.work import Counts, Handler, Work, Workshop
from taktora_trio.host.reader import ChannelReader
from taktora_trio.host.taken import Taken
from taktora_trio.host.writer import ChannelWriter
from taktora_trio.opening import NoPublicConstructor

__all__ = ["Handler", "Responder", "ResponderStatistics", "check_serving", "serve"]

Q = TypeVar("Q")
A = TypeVar("A")
log = logging.getLogger(__name__)


@attrs.frozen
class ResponderStatistics:
    """Counts since `serve` began."""

    requests: int
    """Requests for which the handler was called."""
    answered: int
    """Requests that were answered, failures not included."""
    failed: int
    """Requests that were answered with a failure."""
    repeated: int
    """Requests that came again, and for which the handler was not called again."""
    expired: int
    """Requests that were not begun, or not completed, before their deadline."""
    unanswerable: int
    """Requests that nobody could be answered to: they name no response topic, or one that is not the exchange's, or
    is too long for a reply."""
    forgotten: int
    """Replies that were not kept until the deadlines of their requests, since there was no room for them."""


class Responder(Generic[Q, A], metaclass=NoPublicConstructor, opened_by="nursery.start(host.serve, exchange, handler)"):
    """Has a handler answer requests. `host.serve` reports it to `nursery.start` when it has begun."""

    def __init__(
        self,
        exchange: Exchange[Q, A],
        reader: ChannelReader[Q],
        workshop: Workshop[Q, A],
        concurrency: int,
        boottime_ns: Callable[[], int],
    ) -> None:
        self._name = exchange.name
        self._replies = exchange.for_responder[1]
        self._reader = reader
        self._workshop = workshop
        self._counts = workshop.counts
        self._room = trio.Semaphore(concurrency)
        self._boottime_ns = boottime_ns

    def __repr__(self) -> str:
        return f"Responder({self._name!r}, requests={self._counts.requests})"

    def statistics(self) -> ResponderStatistics:
        counts = self._counts
        return ResponderStatistics(
            counts.requests,
            counts.answered,
            counts.failed,
            counts.repeated,
            counts.expired,
            counts.unanswerable,
            self._workshop.answered_before.forgotten,
        )

    async def run(self, task_status: trio.TaskStatus[Responder[Q, A]]) -> NoReturn:
        async with trio.open_nursery() as nursery:
            task_status.started(self)
            while True:
                await self._room.acquire()
                taken = await self._next()
                work = self._work_at(taken)
                if work is None:
                    taken.done()
                    self._room.release()
                else:
                    nursery.start_soon(self._do, taken, work)

    async def _next(self) -> Taken[Q]:
        while True:
            try:
                return self._reader.take_nowait()
            except trio.WouldBlock:
                await self._reader.wait()
            except TransportError as exc:
                log.error(
                    "exchange %s: a request can't be read: %s",
                    self._name,
                    exc,
                    extra={"event": "request-unreadable", "exchange": self._name},
                )

    def _work_at(self, taken: Taken[Q]) -> Work[Q, A] | None:
        """Return what is to be done for a request; `None` if nothing is."""
        metadata = taken.metadata
        if metadata is None or not metadata.response_topic:
            self._can_not_answer("it names no response topic")
            return None
        try:
            self._replies.routing.check_topic(metadata.response_topic)
        except MessageError as exc:
            self._can_not_answer(str(exc))
            return None
        if len(metadata.response_topic.encode()) > self._replies.topic_space:
            self._can_not_answer(f"its response topic has more than {self._replies.topic_space} bytes")
            return None
        now = trio.current_time()
        left = seconds_left(taken.header.boottime_ns, metadata, self._boottime_ns())
        if left is not None and left <= 0:
            self._workshop.too_late()
            return None
        deadline = math.inf if left is None else now + left
        key = (metadata.response_topic, taken.header.correlation_id)
        answered_before = self._workshop.answered_before
        begun = answered_before.find(key, now)
        if begun is None:
            if key[1]:  # a request without an id can't be known again
                answered_before.begin(key)
        else:
            self._counts.repeated += 1
            if not begun.is_finished:
                return None  # it is answered when the first is
        return Work(self._workshop, taken, key, deadline, begun)

    async def _do(self, taken: Taken[Q], work: Work[Q, A]) -> None:
        try:
            await work.do()
        except BaseException:  # this process ends: its successor gets the request again
            self._workshop.answered_before.forget(work.key)
            taken.give_back(None)
            raise
        finally:
            self._room.release()
        taken.done()

    def _can_not_answer(self, reason: str) -> None:
        self._counts.unanswerable += 1
        if is_worth_logging(self._counts.unanswerable):
            text = "exchange %s: a request can't be answered (%d so far): %s"
            log.warning(
                text,
                self._name,
                self._counts.unanswerable,
                escaped(reason),
                extra={"event": "request-unanswerable", "exchange": self._name, "count": self._counts.unanswerable},
            )


async def serve(
    exchange: Exchange[Q, A],
    handler: Handler[Q, A],
    reader: ChannelReader[Q],
    writer: ChannelWriter[A],
    codec: PayloadCodec,
    *,
    concurrency: int,
    max_kept: int,
    max_kept_bytes: int,
    task_status: trio.TaskStatus[Responder[Q, A]],
    boottime_ns: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
) -> NoReturn:
    """Serve on these ends of the exchange's channels; `codec` is that of the replies."""
    workshop = Workshop(exchange, handler, writer, codec, Answered(max_kept, max_kept_bytes), Counts())
    responder: Responder[Any, Any] = Responder._create(exchange, reader, workshop, concurrency, boottime_ns)
    await responder.run(task_status)


def check_serving(exchange: object, handler: object, **numbers: object) -> None:
    """Raise `ConfigError` for arguments of `host.serve` that can't work."""
    if not isinstance(exchange, Exchange):
        raise ConfigError(f"{exchange!r} is no exchange: write host.serve(EXCHANGE, handler)")
    if not callable(handler) or not (is_async_function(handler) or hasattr(handler, "__wrapped__")):
        shown = getattr(handler, "__qualname__", repr(handler))
        raise ConfigError(f"exchange {exchange.name!r}: its handler {shown} is no async function of one request")
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"exchange {exchange.name!r}: {name} is {value!r}; it must be a whole number above 0")
