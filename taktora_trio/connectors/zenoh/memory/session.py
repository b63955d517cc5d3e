"""What one connection declares, sends and gets on a network in this process."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Literal, NamedTuple

import attrs
import trio
from msgspec.structs import replace
from trio_util import AsyncValue, RepeatedEvent

from taktora_trio.connectors.connection import ConnectionLost
from taktora_trio.connectors.zenoh.handover import Handover, size_of
from taktora_trio.connectors.zenoh.keys import includes, intersects
from taktora_trio.connectors.zenoh.memory.network import Line, Queryable
from taktora_trio.connectors.zenoh.memory.questions import Ask
from taktora_trio.connectors.zenoh.session import OnQuestion, OnSample, Quality, Question, Sample, Session

__all__ = ["Kept", "MemorySession"]


class Kept:
    """What a publisher has put and keeps."""

    def __init__(self, most: int, source: str) -> None:
        self.samples = deque[Sample](maxlen=most)
        self._source = source
        self._numbers = count()

    def put(self, sample: Sample) -> Sample:
        """Return it with its number."""
        numbered = replace(sample, source=self._source, number=next(self._numbers))
        self.samples.append(numbered)
        return numbered


class _Subscriber(NamedTuple):
    key: str
    on_sample: OnSample
    stamped: bool
    others_only: bool
    recovers: bool

    def seen(self, sample: Sample) -> Sample:
        """Return the sample as it is to come."""
        if self.recovers or (self.stamped and not sample.source):
            return sample
        return replace(sample, source="", number=0, timestamp=sample.timestamp if self.stamped else "")


@attrs.define
class _Watched:
    """Whether somebody is there for a key, for who wants to know."""

    matches: Callable[[], bool]
    on_change: Callable[[bool], None]
    matched: bool


class MemorySession(Session):
    """What one connection has declared."""

    def __init__(self, line: Line, handover: Handover) -> None:
        self.asks: dict[Ask, float] = {}
        """What it has asked, with the times at which that ends unanswered."""
        self.questions: set[Question] = set()
        """What it was asked and has not closed."""
        self.tell = handover.tell
        self._line, self._network, self._handover = line, line.network, handover
        self._lost = AsyncValue("")
        self._asked = RepeatedEvent()
        self._id = uuid.uuid4().hex
        self._kept: dict[tuple[str, Quality], Kept] = {}
        self._subscribers: list[_Subscriber] = []
        self._queryables: list[tuple[str, OnQuestion, bool, bool]] = []
        self.tokens: list[str] = []
        self._token_watchers: list[tuple[str, OnSample]] = []
        self._watched: list[_Watched] = []
        line.sessions.append(self)
        self._network.sessions.append(self)

    # What it sends

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
        self._put(Sample(key, bytes(payload), encoding, attachment, timestamp=timestamp), quality, on_written)

    def delete(
        self,
        key: str,
        quality: Quality,
        attachment: bytes = b"",
        on_written: Callable[[], None] | None = None,
        *,
        timestamp: str = "",
    ) -> None:
        self._put(Sample(key, b"", "", attachment, is_delete=True, timestamp=timestamp), quality, on_written)

    def _put(self, sample: Sample, quality: Quality, on_written: Callable[[], None] | None) -> None:
        if self._lost.value:
            return
        if quality.recover:
            kept = self._kept.setdefault((sample.key, quality), Kept(quality.recover, f"{self._id}/{len(self._kept)}"))
            sample = kept.put(sample)
        self._watch("put", sample)
        self._network.put(sample, self)
        if on_written is not None:
            self.tell(on_written)

    def timestamp(self) -> str:
        return f"{self._network.timestamp()}/{self._id}"

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
        if self._lost.value:
            return
        sample = Sample(key, bytes(payload), encoding, attachment)
        self._watch("ask", sample)
        ask = Ask(self, on_reply, on_failure, on_end)
        self.asks[ask] = trio.current_time() + timeout
        self._asked.set()
        ask.put_to(self._network.queryables_for(key, complete, self), sample)

    def forget(self, ask: Ask) -> None:
        if self.asks.pop(ask, None) is not None and not self.asks:
            self._asked.set()  # no time is to be waited for

    def _watch(self, how: Literal["put", "ask"], sample: Sample) -> None:
        for watcher in self._line.watchers:
            watcher(how, sample)

    async def end_asks_in_time(self) -> None:
        """Serve: end what is not answered in time. Runs until cancelled."""
        while True:
            with trio.move_on_at(min(self.asks.values(), default=float("inf"))):
                await self._asked.wait()
            for ask, deadline in list(self.asks.items()):
                if deadline <= trio.current_time():
                    ask.end()

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    # What it wants

    async def subscribe(
        self, key: str, on_sample: OnSample, *, stamped: bool = False, others_only: bool = False, recover: int = 0
    ) -> None:
        await self._checkpoint()
        self._subscribers.append(_Subscriber(key, on_sample, stamped, others_only, bool(recover)))
        self._network.tell_matching()
        if recover:
            for session in self._network.sessions:
                for sample in session.kept_for(key, recover):
                    if not (others_only and session is self):
                        self._handover.take(on_sample, sample, size_of(sample))

    def kept_for(self, key: str, most: int) -> list[Sample]:
        """Return the last samples that its publishers keep of these keys."""
        kept = [list(each.samples)[-most:] for (own, _), each in self._kept.items() if intersects(own, key)]
        return [sample for samples in kept for sample in samples]

    async def answer(
        self, key: str, on_question: OnQuestion, *, complete: bool = True, others_only: bool = False
    ) -> None:
        await self._checkpoint()
        self._queryables.append((key, on_question, complete, others_only))
        self._network.tell_matching()

    async def token(self, key: str) -> None:
        await self._checkpoint()
        self.tokens.append(key)
        self._network.put_token(key, is_there=True)

    def put_token(self, key: str, *, is_there: bool) -> None:
        if not self._lost.value and is_there != (key in self.tokens):
            (self.tokens.append if is_there else self.tokens.remove)(key)
            self._network.put_token(key, is_there=is_there)

    async def watch_tokens(self, key: str, on_token: OnSample) -> None:
        await self._checkpoint()
        self._token_watchers.append((key, on_token))
        for token in {token for session in self._network.sessions for token in session.tokens}:
            if intersects(key, token):
                self.tell(partial(on_token, Sample(token, b"")))

    async def watch_matching(self, key: str, on_change: Callable[[bool], None], *, complete: bool = False) -> None:
        await self._watch_whether(lambda: any(self._network.queryables_for(key, complete, None)), on_change)

    async def watch_subscribers(self, key: str, on_change: Callable[[bool], None]) -> None:
        await self._watch_whether(
            lambda: any(session.subscribes(key, is_own=session is self) for session in self._network.sessions),
            on_change,
        )

    async def _watch_whether(self, matches: Callable[[], bool], on_change: Callable[[bool], None]) -> None:
        await self._checkpoint()
        self._watched.append(_Watched(matches, on_change, matches()))
        self.tell(partial(on_change, self._watched[-1].matched))

    async def _checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._lost.value:
            raise ConnectionLost(self._lost.value)

    # What comes

    def take_sample(self, sample: Sample, *, is_own: bool) -> None:
        for subscriber in self._subscribers:
            if intersects(subscriber.key, sample.key) and not (is_own and subscriber.others_only):
                self._handover.take(subscriber.on_sample, subscriber.seen(sample), size_of(sample))

    def queryables_for(self, key: str, complete: bool, *, is_own: bool) -> Iterator[Queryable]:
        """Yield those that are asked: all that intersect, or with `complete` those so declared that include the key."""
        for own, on_question, is_complete, others_only in self._queryables:
            matches = includes(own, key) and is_complete if complete else intersects(own, key)
            if matches and not (is_own and others_only):
                yield self, on_question

    def take_question(self, on_question: OnQuestion, question: Question) -> None:
        if not self._handover.take(on_question, question, size_of(question), comes_again=True):
            question.close()

    def take_token(self, sample: Sample) -> None:
        for key, on_token in self._token_watchers:
            if intersects(key, sample.key):
                self.tell(partial(on_token, sample))

    def subscribes(self, key: str, *, is_own: bool) -> bool:
        return any(intersects(one.key, key) and not (is_own and one.others_only) for one in self._subscribers)

    def tell_matching(self) -> None:
        for watched in self._watched:
            if (matches := watched.matches()) != watched.matched:
                watched.matched = matches
                self.tell(partial(watched.on_change, matches))

    def watch_discarded(self, on_discarded: Callable[[int], None]) -> None:
        self._handover.on_discarded = on_discarded

    def pause(self) -> None:
        self._handover.pause()

    def resume(self) -> None:
        self._handover.resume()

    # Its end

    def lose(self, reason: str) -> None:
        """End it: nothing reaches anybody from here any more."""
        if self._lost.value:
            return
        self._lost.value = reason
        self._line.sessions.remove(self)
        self._network.sessions.remove(self)
        for ask in list(self.asks):
            ask.forget()
        for question in list(self.questions):
            question.close()
        for token in self.tokens:
            self._network.put_token(token, is_there=False)
        self._network.tell_matching()

    async def wait_until_lost(self) -> ConnectionLost:
        return ConnectionLost(await self._lost.wait_value(bool))
