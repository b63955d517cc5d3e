"""A question on its way to each queryable that matches, and the replies on their way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from taktora_trio.connectors.zenoh.memory.network import Attached, Queryable
from taktora_trio.connectors.zenoh.session import OnSample, Question, Sample

__all__ = ["Ask", "Asker", "MemoryQuestion"]


class Asker(Protocol):
    """A session, as what it has asked has it."""

    def tell(self, call: Callable[[], None]) -> None: ...
    def forget(self, ask: Ask) -> None: ...


class Ask:
    """A question on its way to each queryable that matches, and back."""

    def __init__(
        self,
        asker: Asker,
        on_reply: OnSample,
        on_failure: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        self._asker = asker
        self._on_reply, self._on_failure, self._on_end = on_reply, on_failure, on_end
        self._waiting = 0
        self._is_open = True

    def put_to(self, queryables: Iterator[Queryable], sample: Sample) -> None:
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
        self._asker.forget(self)

    def _tell(self, call: Callable[[], None]) -> None:
        if self._is_open:
            self._asker.tell(call)


class MemoryQuestion(Question):
    """A question as one queryable has it."""

    def __init__(self, ask: Ask, session: Attached, sample: Sample) -> None:
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
