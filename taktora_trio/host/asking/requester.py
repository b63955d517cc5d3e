"""Requester: the end of an `Exchange` at which an app asks."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import attrs
import trio
from msgspec.structs import replace

from taktora_trio.channels import Metadata
from taktora_trio.channels.exchange import Exchange
from taktora_trio.channels.signs import interim_number, reason_of_failure
from taktora_trio.checks import YEAR
from taktora_trio.errors import (
    BackPressure,
    ConfigError,
    MessageError,
    RequestFailed,
    RequestTimeout,
    TransportError,
    is_worth_logging,
)
from taktora_trio.host.reader import ChannelReader
from taktora_trio.host.taken import Taken
from taktora_trio.host.writer import ChannelWriter
from taktora_trio.opening import NoPublicConstructor

__all__ = ["Call", "Requester", "RequesterStatistics", "check_exchange", "open_requester"]

Q = TypeVar("Q")
A = TypeVar("A")
log = logging.getLogger(__name__)

_MAX_INTERIM = 256  # replies to one call that nobody has taken yet
_AGAIN = 1.0  # seconds, after which a request that waits for room is made anew, with what is left of its life
_BATCH = 32  # replies, before other tasks run


@attrs.frozen
class RequesterStatistics:
    """Counts since the requester was opened. A request is answered, fails, times out or is abandoned."""

    requests: int
    """Requests that were sent, or were to be sent."""
    answered: int
    """Requests that got their reply."""
    failed: int
    """Requests that were answered with a failure, whose reply can't be read, or that could not be sent."""
    timed_out: int
    """Requests that had no reply at their deadline."""
    abandoned: int
    """Requests that were cancelled, or whose block was left, before their reply had come."""
    late: int
    """Replies that nobody waited for: too late, or repeated."""


class Requester(Generic[Q, A], metaclass=NoPublicConstructor, opened_by="host.open_requester(exchange)"):
    """Sends requests, and gives each caller its reply. Any number of tasks may ask at once.

    A request is answered once, or raises `RequestTimeout` at its deadline. That holds whatever is killed or cut off
    meanwhile, as long as this process lives.
    """

    def __init__(
        self, exchange: Exchange[Q, A], writer: ChannelWriter[Q], reader: ChannelReader[A], limit: int
    ) -> None:
        self._name = exchange.name
        self._reply_topic = exchange.for_requester[1].routing.address
        self._writer = writer
        self._reader = reader
        self._limit = limit
        self._room = trio.Semaphore(limit)
        self._turn = trio.StrictFIFOLock()  # of those that wait for room in the channel
        self._prefix = os.urandom(8)  # so that no reply to an earlier process is taken for one of ours
        self._numbers = itertools.count(1)
        self._waiting: dict[bytes, Call[Any]] = {}
        self._closed = False
        self._requests = self._answered = self._failed = self._timed_out = self._abandoned = self._late = 0

    def __repr__(self) -> str:
        return f"Requester({self._name!r}, waiting={len(self._waiting)}{', closed' if self._closed else ''})"

    async def request(
        self,
        value: Q,
        *,
        timeout: float,  # noqa: ASYNC109 - the responder is told of it
        topic: str = "",
        metadata: Metadata | None = None,
    ) -> A:
        """Send a request, and return its reply; interim replies are skipped.

        `timeout` is how many seconds it may take in all. The responder is told how many are left, and does not begin
        when there are none. A cancelled call is forgotten: its reply, if it comes, is counted as late.

        `topic` and `metadata` are as in `ChannelWriter.send`; the response topic and the expiry are the requester's.

        Raises `RequestTimeout` at the deadline, `RequestFailed` for a failure at the responder, `MessageError` for a
        request that can't be sent or a reply that can't be read, and `trio.ClosedResourceError`.
        """
        call = self._call(value, timeout, topic, metadata, wants_interim=False)
        async with call:
            return await call.result()

    def call(self, value: Q, *, timeout: float, topic: str = "", metadata: Metadata | None = None) -> Call[A]:
        """Send a request whose interim replies are wanted, for as long as a block lasts.

            async with requester.call(Start("pump 7"), timeout=60) as call:
                async for reply in call:
                    print(reply)

        The arguments are those of `request`, and it raises what that does: what is wrong with the request at the
        beginning of the block, and the rest when the next reply is asked for.
        """
        return self._call(value, timeout, topic, metadata, wants_interim=True)

    def statistics(self) -> RequesterStatistics:
        return RequesterStatistics(
            self._requests, self._answered, self._failed, self._timed_out, self._abandoned, self._late
        )

    def _call(self, value: Q, timeout: float, topic: str, metadata: Metadata | None, *, wants_interim: bool) -> Call[A]:
        if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not 0 < timeout <= YEAR:
            raise ConfigError(f"exchange {self._name!r}: timeout is {timeout!r}; give seconds, more than 0")
        metadata = replace(metadata or Metadata(), response_topic=self._reply_topic)
        return Call(self, value, timeout, topic, metadata, wants_interim=wants_interim)

    # A call

    async def _begin(self, call: Call[A]) -> None:
        self._requests += 1
        try:
            with trio.move_on_at(call.deadline):
                await self._room.acquire()
                call.has_room = True
                if self._closed:
                    raise trio.ClosedResourceError("this requester was closed")
                self._waiting[call.id] = call
                await self._send(call)
                call.is_sent = True
                return
            raise self._timeout(call)
        except BaseException as exc:
            self._end(call, exc)
            raise

    async def _send(self, call: Call[A]) -> None:
        """Send it; where the channel is full, anew each second, so that its expiry is right when it is sent."""
        if not self._turn.locked():
            with contextlib.suppress(BackPressure):
                self._writer.send_nowait(call.value, **call.envelope())
                return
        async with self._turn:
            while True:
                with trio.move_on_after(_AGAIN):
                    await self._writer.send(call.value, **call.envelope())
                    return

    def _end(self, call: Call[A], exc: BaseException | None) -> None:
        if call.has_ended:
            return
        call.has_ended = True
        self._waiting.pop(call.id, None)
        if call.has_room:
            self._room.release()
        if call.is_answered:
            self._answered += 1
        elif isinstance(exc, RequestTimeout) and call.is_overdue:
            self._timed_out += 1
        elif call.has_failed or (not call.is_sent and isinstance(exc, MessageError)):
            self._failed += 1
        else:
            self._abandoned += 1

    def _timeout(self, call: Call[A]) -> RequestTimeout:
        call.is_overdue = True
        about = f"exchange {self._name!r}: no reply within {call.timeout:g} s"
        if call.is_sent:
            return RequestTimeout(f"{about}; is a responder connected, and is it quick enough?")
        if call.has_room:
            return RequestTimeout(f"{about}: the request was not sent, for its channel is full: is the gateway Up?")
        return RequestTimeout(f"{about}: the request was not sent, for {self._limit} others wait for their replies")

    # What comes

    async def receive(self) -> None:
        """Give each reply that comes to the call that it is for, until cancelled."""
        while True:
            await self._reader.wait()
            for _ in range(_BATCH):
                try:
                    taken = self._reader.take_nowait()
                except trio.WouldBlock:
                    break
                except TransportError as exc:
                    log.error(
                        "exchange %s: a reply can't be read: %s",
                        self._name,
                        exc,
                        extra={"event": "reply-unreadable", "exchange": self._name},
                    )
                    continue
                self._came(taken)
                taken.done()
            await trio.lowlevel.checkpoint()

    def _came(self, taken: Taken[A]) -> None:
        call = self._waiting.get(taken.header.correlation_id)
        if call is None or not call.take(taken):
            self._late += 1
            if is_worth_logging(self._late):
                log.info(
                    "exchange %s: %d replies came that nobody waits for",
                    self._name,
                    self._late,
                    extra={"event": "reply-late", "exchange": self._name, "count": self._late},
                )

    def close(self) -> None:
        """Close at once; whoever waits for a reply gets `trio.ClosedResourceError`."""
        self._closed = True
        for call in self._waiting.values():
            call.fail(trio.ClosedResourceError("this requester was closed"))
        self._waiting.clear()

    def _new_id(self) -> bytes:
        return self._prefix + next(self._numbers).to_bytes(8, "big")


class Call(Generic[A]):
    """One request, and its replies as they come; made by `requester.call`. Only one task may wait for them."""

    def __init__(
        self,
        requester: Requester[Any, A],
        value: Any,
        timeout: float,
        topic: str,
        metadata: Metadata,
        *,
        wants_interim: bool,
    ) -> None:
        self.timeout = timeout
        self.deadline = math.inf
        """By trio's clock, `timeout` after the beginning of the block."""
        self.id = requester._new_id()
        """The correlation id."""
        self.value = value
        self.is_sent = self.is_answered = self.has_failed = self.is_overdue = self.has_room = self.has_ended = False
        self._requester = requester
        self._topic = topic
        self._metadata = metadata
        self._wants_interim = wants_interim
        self._interim = 0  # the number of the last one
        self._replies = deque[A]()
        self._failure: Exception | None = None
        self._is_complete = False  # no reply comes behind those that are here
        self._news = trio.Event()

    async def __aenter__(self) -> Self:
        if self.deadline != math.inf:
            raise trio.BusyResourceError("a call is made once: make a new one by requester.call(...)")
        self.deadline = trio.current_time() + self.timeout
        await self._requester._begin(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._requester._end(self, exc)

    def __aiter__(self) -> AsyncIterator[A]:
        return self

    async def __anext__(self) -> A:
        """Wait for the next reply. Ends behind the last one; raises what `Requester.request` does."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.is_answered:
            raise StopAsyncIteration
        with trio.move_on_at(self.deadline):
            while not self._replies and not self._is_complete:
                self._news = trio.Event()
                await self._news.wait()
        if self._replies:
            reply = self._replies.popleft()
            self.is_answered = not self._replies and self._is_complete and self._failure is None
            return reply
        if self._failure is not None:
            self.has_failed = not isinstance(self._failure, trio.ClosedResourceError)
            raise self._failure
        raise self._requester._timeout(self)

    async def result(self) -> A:
        """Wait for the last reply and return it; interim ones that nobody has taken are skipped."""
        if self.is_answered:
            raise trio.EndOfChannel("the last reply was taken already")
        while True:
            reply = await self.__anext__()
            if self.is_answered:
                return reply

    # For the requester

    def envelope(self) -> dict[str, Any]:
        """Return what is to be sent with the value, with what is left of its life."""
        expiry = max(1, math.ceil(self.deadline - trio.current_time()))
        metadata = replace(self._metadata, message_expiry=expiry)
        return {"correlation_id": self.id, "topic": self._topic, "metadata": metadata}

    def take(self, taken: Taken[A]) -> bool:
        """Take a reply; return false if it has come before, or nothing more is wanted."""
        if self._is_complete:
            return False
        reason = reason_of_failure(taken.metadata)
        number = interim_number(taken.metadata)
        if reason is not None:
            self.fail(RequestFailed(reason))
        elif number and (not self._wants_interim or number <= self._interim):
            is_new, self._interim = number > self._interim, max(number, self._interim)
            return is_new
        elif taken.error is not None:
            self.fail(taken.error)
        elif number and len(self._replies) >= _MAX_INTERIM:
            self.fail(RequestFailed(f"{_MAX_INTERIM} interim replies wait to be taken, and more come"))
        else:
            assert taken.value is not None
            self._interim = max(number, self._interim)
            self._replies.append(taken.value.value)
            self._is_complete = not number
        self._news.set()
        return True

    def fail(self, failure: Exception) -> None:
        """Have it raise this behind the replies that are here."""
        self._failure = failure
        self._is_complete = True
        self._news.set()


@contextlib.asynccontextmanager
async def open_requester(
    exchange: Exchange[Q, A], writer: ChannelWriter[Q], reader: ChannelReader[A], limit: int
) -> AsyncIterator[Requester[Q, A]]:
    """Open the requester on these ends of its channels."""
    requester: Requester[Any, Any] = Requester._create(exchange, writer, reader, limit)
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(requester.receive)
            try:
                yield requester
            except Exception as exc:  # noqa: BLE001 - the app's own; it is to come out as it is, and in no group
                failure = exc
            finally:
                requester.close()
                nursery.cancel_scope.cancel()
    finally:
        if failure is not None:  # also if what comes out of the nursery is a cancellation
            raise failure


def check_exchange(exchange: object, limit: object) -> None:
    """Raise `ConfigError` for arguments of `host.open_requester` that can't work."""
    if not isinstance(exchange, Exchange):
        raise ConfigError(f"{exchange!r} is no exchange: write host.open_requester(EXCHANGE)")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ConfigError(f"exchange {exchange.name!r}: limit is {limit!r}; it must be a whole number above 0")
