"""What one connection declares, sends and gets, by the library."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, cast

import trio
import zenoh
from trio_util import AsyncValue, move_on_when

from taktora_trio.connectors.connection import ConnectionLost
from taktora_trio.connectors.zenoh.handover import Handover, size_of
from taktora_trio.connectors.zenoh.native.lanes import MOST_REPLIES, Lane, Replies
from taktora_trio.connectors.zenoh.native.question import NativeQuestion
from taktora_trio.connectors.zenoh.native.recovering import recovering_publisher, recovering_subscriber, undeclare
from taktora_trio.connectors.zenoh.native.sender import Sender
from taktora_trio.connectors.zenoh.native.values import (
    CONGESTION_CONTROL,
    ORIGIN,
    PRIORITY,
    RELIABILITY,
    TARGET,
    failure_of,
    numbered_sample_of,
    reason,
    sample_of,
    stamped_sample_of,
    timestamp_of,
)
from taktora_trio.connectors.zenoh.session import OnAnswer, OnQuestion, OnSample, Quality, Session

__all__ = ["NativeSession", "direct"]

_MOST_PUBLISHERS = 1024
_MOST_QUERIERS = 64
_NOBODY = "@taktora/nobody"  # no wildcard matches it


def direct(function: Callable[[Any], None], *, drop: Callable[[], None] | None = None) -> Any:
    """Have this called in the library's thread, for what comes seldom. What is not direct has a thread of its own,
    which costs a tenth for each of many; until 256 wait there it holds up nothing else."""
    return zenoh.handlers.Callback(function, drop, indirect=False)


def _is_known(lost: ConnectionLost | None) -> bool:
    return lost is not None


class NativeSession(Session):
    """What one connection has declared on the library's session."""

    def __init__(
        self,
        library: zenoh.Session,
        handover: Handover,
        sender: Sender,
        lost: AsyncValue[ConnectionLost | None],
        patience: float,
        start_soon: Callable[[Callable[[], Awaitable[object]]], object],
    ) -> None:
        """`patience` is the time in seconds for the other side's answers. `start_soon` starts a task that ends when the
        session has ended."""
        self._patience, self._start_soon = patience, start_soon
        self._library, self._handover, self._sender, self._lost = library, handover, sender, lost
        self._declared: list[Any] = []
        self._publishers: dict[tuple[str, Quality], zenoh.Publisher] = {}  # what the sender calls has this
        self._gets: dict[tuple[str, Quality, float], Callable[..., Replies]] = {}  # and this
        self._lanes: dict[str, Lane] = {}
        self._cancellation = zenoh.CancellationToken()
        self._tokens: dict[str, zenoh.LivelinessToken] = {}  # and this
        self.later = sender.later

    def put(
        self,
        key: str,
        payload: bytes,
        quality: Quality,
        encoding: str = "",
        attachment: bytes = b"",
        on_written: Callable[[], None] | None = None,
        *,
        timestamp: str = "",
    ) -> None:
        size = len(payload)
        if timestamp or encoding or attachment:
            args = (key, payload, quality, encoding or None, attachment or None, timestamp)
            self.later(self._put_with, args, on_written, size)
        else:
            self.later(self._put, (key, payload, quality), on_written, size)

    def delete(
        self,
        key: str,
        quality: Quality,
        attachment: bytes = b"",
        on_written: Callable[[], None] | None = None,
        *,
        timestamp: str = "",
    ) -> None:
        self.later(self._delete, (key, quality, attachment or None, timestamp), on_written)

    def timestamp(self) -> str:
        return self._library.new_timestamp().to_string_rfc3339_lossy()

    def _put(self, key: str, payload: bytes, quality: Quality) -> None:
        publisher = self._publishers.get((key, quality))
        if publisher is None:
            publisher = self._declare_publisher(key, quality)
        publisher.put(payload)  # half the time of one that is told of an encoding

    def _put_with(
        self, key: str, payload: bytes, quality: Quality, encoding: str | None, attachment: bytes | None, stamp: str
    ) -> None:
        publisher = self._publishers.get((key, quality)) or self._declare_publisher(key, quality)
        publisher.put(payload, encoding=encoding, attachment=attachment, timestamp=timestamp_of(stamp))

    def _delete(self, key: str, quality: Quality, attachment: bytes | None, stamp: str) -> None:
        publisher = self._publishers.get((key, quality)) or self._declare_publisher(key, quality)
        publisher.delete(attachment=attachment, timestamp=timestamp_of(stamp))

    def _declare_publisher(self, key: str, quality: Quality) -> zenoh.Publisher:
        if len(self._publishers) >= _MOST_PUBLISHERS:
            undeclare(self._publishers.pop(next(iter(self._publishers))))  # the oldest one
        declare = recovering_publisher(quality.recover) if quality.recover else zenoh.Session.declare_publisher
        publisher = self._publishers[key, quality] = declare(
            self._library,
            key,
            congestion_control=CONGESTION_CONTROL[quality.congestion_control],
            priority=PRIORITY[quality.priority],
            reliability=RELIABILITY[quality.reliability],
            express=quality.express,
        )
        return publisher

    def ask(
        self,
        key: str,
        payload: bytes,
        quality: Quality,
        encoding: str,
        attachment: bytes,
        timeout: float,
        on_reply: OnSample,
        on_failure: Callable[[bytes], None],
        on_end: Callable[[], None],
        *,
        complete: bool = False,
    ) -> None:
        tell = self._handover.tell

        def take(reply: zenoh.Reply) -> None:
            if reply.ok is not None:
                tell(partial(on_reply, stamped_sample_of(reply.ok)))
            elif (failure := failure_of(reply)) is not None:
                tell(partial(on_failure, failure))

        self.later(
            partial(
                self._library.get,
                key,
                direct(take, drop=partial(tell, on_end)),
                target=TARGET[complete],
                consolidation=zenoh.ConsolidationMode.NONE,
                timeout=timeout,
                congestion_control=CONGESTION_CONTROL[quality.congestion_control],
                priority=PRIORITY[quality.priority],
                express=quality.express,
                payload=payload,
                encoding=encoding or None,
                attachment=attachment or None,
            ),
            size=len(payload),
        )

    def ask_in_turn(
        self,
        lane: str,
        key: str,
        payload: bytes,
        quality: Quality,
        encoding: str,
        attachment: bytes,
        timeout: float,
        on_answer: OnAnswer,
    ) -> None:
        its_lane = self._lanes.get(lane)
        if its_lane is None:
            its_lane = self._lanes[lane] = Lane(self._handover.tell)
            self._start_soon(its_lane.serve)
        args = (its_lane, key, payload, quality, encoding or None, attachment or None, timeout, on_answer)
        self.later(self._ask_in_turn, args, None, len(payload))

    def _ask_in_turn(
        self,
        lane: Lane,
        key: str,
        payload: bytes,
        quality: Quality,
        encoding: str | None,
        attachment: bytes | None,
        timeout: float,
        on_answer: OnAnswer,
    ) -> None:
        get = self._gets.get((key, quality, timeout)) or self._getter(key, quality, timeout)
        replies = get(
            zenoh.handlers.FifoChannel(MOST_REPLIES),
            payload=payload,
            encoding=encoding,
            attachment=attachment,
            cancellation_token=self._cancellation,
        )
        lane.put((replies, on_answer))

    def _getter(self, key: str, quality: Quality, timeout: float) -> Callable[..., Replies]:
        """Return what asks on this key: where there are few, a querier, which takes a quarter less time."""
        options: Any = {
            "target": TARGET[True],
            "consolidation": zenoh.ConsolidationMode.NONE,
            "timeout": timeout,
            "congestion_control": CONGESTION_CONTROL[quality.congestion_control],
            "priority": PRIORITY[quality.priority],
            "express": quality.express,
        }
        if len(self._gets) >= _MOST_QUERIERS:
            return partial(self._library.get, key, **options)
        querier = self._library.declare_querier(key, **options)
        self._declared.append(querier)
        get = self._gets[key, quality, timeout] = querier.get
        return get

    async def subscribe(
        self, key: str, on_sample: OnSample, *, stamped: bool = False, others_only: bool = False, recover: int = 0
    ) -> None:
        take, read = self._handover.take, stamped_sample_of if stamped else sample_of
        if recover:
            read = numbered_sample_of

        def came(sample: zenoh.Sample) -> None:
            item = read(sample)
            take(on_sample, item, size_of(item))

        if recover:
            await self._declare(partial(recovering_subscriber, self._library, key, came, recover, others_only))
            return
        declare = partial(self._library.declare_subscriber, allowed_origin=ORIGIN[others_only])
        await self._declare(partial(declare, key, came))

    async def answer(
        self, key: str, on_question: OnQuestion, *, complete: bool = True, others_only: bool = False
    ) -> None:
        take = self._handover.take

        def came(query: zenoh.Query) -> None:
            question = NativeQuestion(query, self.later)
            if not take(on_question, question, size_of(question), comes_again=True):
                question.drop()

        declare = partial(self._library.declare_queryable, complete=complete, allowed_origin=ORIGIN[others_only])
        await self._declare(partial(declare, key, came))

    async def token(self, key: str) -> None:
        await self._declare(partial(self._library.liveliness().declare_token, key))

    def put_token(self, key: str, *, is_there: bool) -> None:
        self.later(partial(self._put_token, key, is_there))

    def _put_token(self, key: str, is_there: bool) -> None:
        if is_there and key not in self._tokens:
            self._tokens[key] = self._library.liveliness().declare_token(key)
        elif not is_there and key in self._tokens:
            self._tokens.pop(key).undeclare()

    async def watch_tokens(self, key: str, on_token: OnSample) -> None:
        tell = self._handover.tell

        def came(sample: zenoh.Sample) -> None:
            tell(partial(on_token, sample_of(sample)))

        declare = self._library.liveliness().declare_subscriber
        await self._declare(partial(declare, key, direct(came), history=True))

    async def watch_matching(self, key: str, on_change: Callable[[bool], None], *, complete: bool = False) -> None:
        declare = partial(self._library.declare_querier, key, target=TARGET[complete])
        await self._declare(partial(self._watch, declare, on_change))

    async def watch_subscribers(self, key: str, on_change: Callable[[bool], None]) -> None:
        await self._declare(partial(self._watch, partial(self._library.declare_publisher, key), on_change))

    def _watch(self, declare: Callable[[], Any], on_change: Callable[[bool], None]) -> tuple[Any, Any]:
        declared, tell = declare(), self._handover.tell

        def tell_now() -> None:
            status: Any = declared.matching_status  # whose type is told wrongly
            on_change(status.matching)

        def changed(_: object = None) -> None:  # what two threads tell may come out of order: so look then
            tell(tell_now)

        listener = declared.declare_matching_listener(direct(changed))
        changed()
        return listener, declared

    async def _declare(self, declare: Callable[[], Any]) -> None:
        try:
            declared = await trio.to_thread.run_sync(declare)
        except zenoh.ZError as exc:
            raise ConnectionLost(reason(exc)) from None
        self._declared += declared if isinstance(declared, tuple) else (declared,)

    async def settle(self) -> None:
        # They answer behind what they were told before: what they have of a key that nobody has.
        known = trio.Event()
        ask = direct(lambda _: None, drop=partial(self._handover.tell, known.set))
        self.later(lambda: self._library.liveliness().get(_NOBODY, ask, timeout=2 * self._patience))
        with trio.move_on_after(self._patience):
            async with move_on_when(self.wait_until_lost):
                await known.wait()
                return
            raise await self.wait_until_lost()
        raise ConnectionLost("the other side does not answer", silent=True)

    def in_batches(self, answers: AbstractContextManager[object]) -> AbstractContextManager[object]:
        self._handover.answers = answers
        return self._sender

    async def flush(self) -> None:
        await self._sender.flush()

    def watch_discarded(self, on_discarded: Callable[[int], None]) -> None:
        self._handover.on_discarded = on_discarded

    def pause(self) -> None:
        self._handover.pause()

    def resume(self) -> None:
        self._handover.resume()

    async def wait_until_lost(self) -> ConnectionLost:
        return cast(ConnectionLost, await self._lost.wait_value(_is_known))

    def close(self) -> None:
        """Ask nothing more, and have `end` end what waits for answers."""
        for lane in self._lanes.values():
            lane.close()

    def end(self, waiting: Iterable[object], sender_has_ended: bool) -> None:
        """Close the questions that wait, and undeclare everything. In a worker thread.

        Also where the node ends, too: of a publisher that is not undeclared the library keeps 14 KB for ever. One that
        a thread is in a call of can't be.
        """
        self._cancellation.cancel()
        with contextlib.suppress(zenoh.ZError):  # the link has ended, or is ending
            for question in waiting:
                if isinstance(question, NativeQuestion):
                    question.drop()
        if not sender_has_ended:
            return
        to_end = [*self._tokens.values(), *self._publishers.values(), *reversed(self._declared)]
        self._tokens.clear()
        self._publishers.clear()
        self._declared.clear()
        while to_end:
            with contextlib.suppress(zenoh.ZError):
                undeclare(to_end.pop())
