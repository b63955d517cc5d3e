"""A network and its nodes inside one process, for tests and for trying things out without a network.

The network stands for a router that is always there: a node is linked while its line is not cut. What one node sends,
another one is handed in a later turn of the loop, as by the library.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Literal, NamedTuple, TypeAlias

import attrs
import trio
from msgspec.structs import replace
from trio_util import AsyncValue, RepeatedEvent

from taktora_trio.connectors.connection import ConnectFailed, ConnectionLost, ConnectRefused
from taktora_trio.connectors.zenoh.handover import Handover
from taktora_trio.connectors.zenoh.keys import includes, intersects
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.session import Node, OnQuestion, OnSample, Quality, Question, Sample, Session

__all__ = ["MemoryNetwork", "MemoryNode", "MemorySession", "OnSent", "open_memory_node"]

OnSent: TypeAlias = Callable[[Literal["put", "ask"], Sample], None]
"""Called with each sample that a line carries from its node, and with each question."""

_OVERHEAD = 480  # bytes of an item that waits, besides its content


@attrs.define(eq=False)
class Line:
    """What lies between the nodes of one address and their network."""

    network: MemoryNetwork
    is_linking: AsyncValue[bool] = attrs.field(factory=lambda: AsyncValue(True), init=False)
    """False while the other side is out of reach, or refuses."""
    joined: AsyncValue[int] = attrs.field(factory=lambda: AsyncValue(0), init=False)
    """Counts the attempts to join the network by this line, however they fared."""
    sessions: list[MemorySession] = attrs.field(factory=list)
    watchers: list[OnSent] = attrs.field(factory=list)
    _unreachable: bool = attrs.field(default=False, init=False)
    _refuses: bool = attrs.field(default=False, init=False)

    def cut(self, reason: str = "the connection was reset") -> None:
        """End the connections that there are."""
        for session in list(self.sessions):
            session.lose(reason)

    def set(self, *, unreachable: bool | None = None, refuses: bool | None = None) -> None:
        """Change how the other side behaves from now on; `None` leaves it as it is.

        It refuses a client for good, as with a wrong password. Peers find nobody then.
        """
        self._unreachable = self._unreachable if unreachable is None else unreachable
        self._refuses = self._refuses if refuses is None else refuses
        self.is_linking.value = not (self._unreachable or self._refuses)

    def check(self, address: str) -> None:
        """Raise `ConnectFailed` or `ConnectRefused` where a client can't connect."""
        if self._unreachable:
            raise ConnectFailed(f"{address} is unreachable")
        if self._refuses:
            raise ConnectRefused(f"{address} refuses this node: its login, or its certificate")


class MemoryNetwork:
    """A network without a network: what its nodes have declared."""

    _lines: dict[tuple[str, ...], Line]

    def __init__(self) -> None:
        self.sessions: list[MemorySession] = []
        self._time_ns = 0

    @classmethod
    def line_at(cls, endpoints: tuple[str, ...]) -> Line:
        """Return the line to these endpoints; where there is none, one to a network of its own."""
        if endpoints not in cls._lines:
            cls._lines[endpoints] = Line(cls())
        return cls._lines[endpoints]

    @classmethod
    def lay_line(cls, endpoints: tuple[str, ...], network: MemoryNetwork) -> Line:
        """Have these endpoints lead to that network, and return the line."""
        line = cls._lines[endpoints] = Line(network)
        return line

    @classmethod
    def forget(cls, endpoints: tuple[str, ...]) -> None:
        cls._lines.pop(endpoints, None)

    def put(self, sample: Sample, origin: MemorySession) -> None:
        for session in self.sessions:
            session.take_sample(sample, is_own=session is origin)

    def timestamp(self) -> str:
        """Return the present time of the network, later than the last one by at least a nanosecond."""
        self._time_ns = max(self._time_ns + 1, round(trio.current_time() * 1e9))
        seconds, ns = divmod(self._time_ns, 10**9)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ns:09}Z"

    def put_token(self, key: str, *, is_there: bool) -> None:
        sample = Sample(key, b"", is_delete=not is_there)
        for session in self.sessions:
            session.take_token(sample)

    def queryables_for(
        self, key: str, complete: bool, asker: MemorySession | None
    ) -> Iterator[tuple[MemorySession, OnQuestion]]:
        for session in self.sessions:
            yield from session.queryables_for(key, complete, is_own=session is asker)

    def tell_matching(self) -> None:
        """Tell whoever wants to know which keys have a queryable, or a subscriber, now."""
        for session in self.sessions:
            session.tell_matching()


MemoryNetwork._lines = {}


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


class _Ask:
    """A question on its way to each queryable that matches, and back."""

    def __init__(
        self,
        session: MemorySession,
        on_reply: OnSample,
        on_failure: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        self._session = session
        self._on_reply, self._on_failure, self._on_end = on_reply, on_failure, on_end
        self._waiting = 0
        self._is_open = True

    def put_to(self, queryables: Iterator[tuple[MemorySession, OnQuestion]], sample: Sample) -> None:
        self._waiting = 1  # until all have it: one that does not take it ends at once
        for session, on_question in list(queryables):
            self._waiting += 1
            session.take_question(on_question, MemoryQuestion(self, session, sample))
        self.one_ended()

    def reply(self, sample: Sample) -> None:
        self._tell(partial(self._on_reply, sample))

    def fail(self, payload: bytes) -> None:
        self._tell(partial(self._on_failure, payload))

    def one_ended(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self.end()

    def end(self) -> None:
        self._tell(self._on_end)
        self.forget()

    def forget(self) -> None:
        self._is_open = False
        self._session.forget(self)

    def _tell(self, call: Callable[[], None]) -> None:
        if self._is_open:
            self._session.tell(call)


class MemoryQuestion(Question):
    """A question as one queryable has it."""

    def __init__(self, ask: _Ask, session: MemorySession, sample: Sample) -> None:
        self.key, self.payload = sample.key, sample.payload
        self.encoding, self.attachment = sample.encoding, sample.attachment
        self._ask, self._session = ask, session
        session.questions.add(self)

    def reply(self, key: str, payload: bytes, encoding: str = "", attachment: bytes = b"", timestamp: str = "") -> None:
        if self in self._session.questions:
            self._ask.reply(Sample(key, bytes(payload), encoding, attachment, timestamp=timestamp))

    def fail(self, payload: bytes) -> None:
        if self in self._session.questions:
            self._ask.fail(payload)

    def close(self) -> None:
        if self in self._session.questions:
            self._session.questions.remove(self)
            self._ask.one_ended()


@attrs.define
class _Watched:
    """Whether somebody is there for a key, for who wants to know."""

    matches: Callable[[], bool]
    on_change: Callable[[bool], None]
    matched: bool


class MemorySession(Session):
    """What one connection has declared."""

    def __init__(self, line: Line, handover: Handover) -> None:
        self.asks: dict[_Ask, float] = {}
        """What it has asked, with the times at which that ends unanswered."""
        self.questions: set[MemoryQuestion] = set()
        """What it was asked and has not closed."""
        self.tell = handover.tell
        self._line, self._network, self._handover = line, line.network, handover
        self._lost = AsyncValue("")
        self._asked = RepeatedEvent()
        self._id = uuid.uuid4().hex
        self._kept: dict[tuple[str, Quality], Kept] = {}
        self._subscribers: list[_Subscriber] = []
        self._queryables: list[tuple[str, OnQuestion, bool, bool]] = []
        self._tokens: list[str] = []
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
        ask = _Ask(self, on_reply, on_failure, on_end)
        self.asks[ask] = trio.current_time() + timeout
        self._asked.set()
        ask.put_to(self._network.queryables_for(key, complete, self), sample)

    def forget(self, ask: _Ask) -> None:
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
                        self._handover.take(on_sample, sample, _size(sample))

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
        self._tokens.append(key)
        self._network.put_token(key, is_there=True)

    def put_token(self, key: str, *, is_there: bool) -> None:
        if not self._lost.value and is_there != (key in self._tokens):
            (self._tokens.append if is_there else self._tokens.remove)(key)
            self._network.put_token(key, is_there=is_there)

    async def watch_tokens(self, key: str, on_token: OnSample) -> None:
        await self._checkpoint()
        self._token_watchers.append((key, on_token))
        for token in {token for session in self._network.sessions for token in session._tokens}:
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
                self._handover.take(subscriber.on_sample, subscriber.seen(sample), _size(sample))

    def queryables_for(self, key: str, complete: bool, *, is_own: bool) -> Iterator[tuple[MemorySession, OnQuestion]]:
        """Yield those that are asked: all that intersect, or with `complete` those so declared that include the key."""
        for own, on_question, is_complete, others_only in self._queryables:
            matches = includes(own, key) and is_complete if complete else intersects(own, key)
            if matches and not (is_own and others_only):
                yield self, on_question

    def take_question(self, on_question: OnQuestion, question: MemoryQuestion) -> None:
        if not self._handover.take(on_question, question, _size(question), comes_again=True):
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
        for token in self._tokens:
            self._network.put_token(token, is_there=False)
        self._network.tell_matching()

    async def wait_until_lost(self) -> ConnectionLost:
        return ConnectionLost(await self._lost.wait_value(bool))


def _size(item: Sample | Question) -> int:
    return _OVERHEAD + len(item.key) + len(item.payload) + len(item.attachment)


class MemoryNode(Node):
    """A node on a line."""

    def __init__(self, line: Line, backlog: int) -> None:
        self._line, self._backlog = line, backlog

    async def wait_until_linked(self) -> None:
        await self._line.is_linking.wait_value(True)

    @contextlib.asynccontextmanager
    async def open_session(self) -> AsyncIterator[MemorySession]:
        handover = Handover(self._backlog)
        session = MemorySession(self._line, handover)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handover.raise_failure)
            nursery.start_soon(session.end_asks_in_time)
            try:
                yield session
            finally:
                session.lose("disconnected")
                handover.close()
            nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def open_memory_node(options: ZenohOptions) -> AsyncIterator[MemoryNode]:
    """Join the network in this process, as `open_node` does."""
    await trio.lowlevel.checkpoint()
    line = MemoryNetwork.line_at(options.places)
    line.joined.value += 1
    if options.mode == "client":
        line.check(options.address)
    yield MemoryNode(line, options.inbound_backlog)
