"""The interface of a node of the network, and of a session on it: by the library, or in memory for tests.

What is written once above it, is tested with either.

A node joins the network when its block is entered. In client mode it lasts as long as one connection; in peer and
router mode as long as the gateway. A session is a connection's use of the node: it ends what it has declared.

All that is handed over comes in trio's thread, and nothing after the block is left. Methods that are not async return
at once, do nothing on a session that is lost or left, and don't raise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Literal, TypeAlias

import msgspec
import trio

from taktora_trio.connectors.connection import ConnectionLost

__all__ = [
    "NO_REASON",
    "CongestionControl",
    "Node",
    "OnAnswer",
    "OnQuestion",
    "OnSample",
    "Priority",
    "Quality",
    "Question",
    "Reliability",
    "Sample",
    "Session",
]

Priority: TypeAlias = Literal[
    "real-time", "interactive-high", "interactive-low", "data-high", "data", "data-low", "background"
]
CongestionControl: TypeAlias = Literal["block", "drop"]
Reliability: TypeAlias = Literal["reliable", "best-effort"]


NO_REASON = b"it gave no reason"
"""Stands for the reason of a failure that has none."""


class Quality(msgspec.Struct, frozen=True):
    """The quality of service of what a channel sends."""

    priority: Priority = "data"
    congestion_control: CongestionControl = "block"
    reliability: Reliability = "reliable"
    express: bool = False
    recover: int = 0
    """The number of samples that a publisher keeps for subscribers that have missed some."""


class Sample(msgspec.Struct, frozen=True, gc=False):
    """What comes: of a subscription, or as a reply."""

    key: str
    payload: bytes
    encoding: str = ""
    """As `type/subtype`; empty for the default, which is just some bytes."""
    attachment: bytes = b""
    is_delete: bool = False
    """True if somebody has deleted the value of this key; the payload is then empty."""
    timestamp: str = ""
    """When it was put and by whom, as RFC 3339 has it with nine digits of a second, then a slash and an id: so these
    texts are ordered as their times are. Empty if it is not known, or nobody has asked for it."""
    source: str = ""
    """The publisher that has put it, if that numbers its samples and `subscribe` was to recover some."""
    number: int = 0
    """Its number among those of the publisher, from 0 on."""


class Question(ABC):
    """A query that has come. Whoever asked waits until it is closed."""

    key: str
    """A key, or an expression of keys."""
    payload: bytes
    encoding: str
    attachment: bytes

    @abstractmethod
    def reply(self, key: str, payload: bytes, encoding: str = "", attachment: bytes = b"", timestamp: str = "") -> None:
        """Reply, on a key that the question's intersects. It never leaves before the caller's next checkpoint, but with
        what is written next."""

    @abstractmethod
    def fail(self, payload: bytes) -> None:
        """Reply that it can't be answered, with the reason as text. It leaves as a reply does."""

    @abstractmethod
    def close(self) -> None:
        """Say that no more replies come, behind those that there were. It leaves as a reply does."""


OnSample: TypeAlias = Callable[[Sample], None]
OnQuestion: TypeAlias = Callable[[Question], None]
OnAnswer: TypeAlias = Callable[[bytes | None], None]
"""Called with nothing (b"") if somebody has replied, with the reason if somebody has failed and nobody has replied, and
with `None` if it has ended and nobody has said anything."""


class Session(ABC):
    """What one connection has declared on a node."""

    @abstractmethod
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
        """Put behind all that was put before with the same priority.

        `on_written` is called when the payload is no longer needed: the library has it, and sends it when it can.
        """

    @abstractmethod
    def delete(
        self,
        key: str,
        quality: Quality,
        attachment: bytes = b"",
        on_written: Callable[[], None] | None = None,
        *,
        timestamp: str = "",
    ) -> None:
        """Delete the value of this key wherever it is kept, behind what was put before with the same priority."""

    @abstractmethod
    def timestamp(self) -> str:
        """Return the present time with this node's id, as `Sample.timestamp` has it. No two are the same."""

    @abstractmethod
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
        """Ask every queryable that matches, behind all that was asked before with the same priority.

        With `complete` ask those alone that were declared so: they take messages, the others have values to tell.

        `on_reply` and `on_failure` are called for each reply, `on_end` last and once: all have ended, or the timeout is
        over, or there was none. After a loss, and after the block is left, it is not called.
        """

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
        """Ask those that take messages, as `ask` does with `complete`, and be told of one answer.

        Those of one lane may be told in the order of their questions: one that came earlier then waits.
        """
        answers = _Answers(on_answer)
        self.ask(
            key,
            payload,
            quality,
            encoding,
            attachment,
            timeout,
            answers.replied,
            answers.failed,
            answers.ended,
            complete=True,
        )

    @abstractmethod
    async def subscribe(
        self, key: str, on_sample: OnSample, *, stamped: bool = False, others_only: bool = False, recover: int = 0
    ) -> None:
        """Subscribe until the end of the session. With `stamped` samples have their timestamp, if there is one; with
        `others_only` what this node puts itself does not come.

        With `recover` publishers that keep samples are asked for so many of each key: for the last at the beginning,
        and for those that are missing. What one publisher puts on a key comes in order, each once.
        """

    @abstractmethod
    async def answer(
        self, key: str, on_question: OnQuestion, *, complete: bool = True, others_only: bool = False
    ) -> None:
        """Answer queries until the end of the session.

        The queryable is `complete` if it takes whatever is asked on these keys; one that has the values of some is not.
        With `others_only` this node itself does not ask it, though to `watch_matching` it is there.
        """

    @abstractmethod
    async def token(self, key: str) -> None:
        """Have others see a liveliness token until the end of the session."""

    @abstractmethod
    def put_token(self, key: str, *, is_there: bool) -> None:
        """Have others see a liveliness token from now on, or no more. It leaves behind what was put before."""

    @abstractmethod
    async def watch_tokens(self, key: str, on_token: OnSample) -> None:
        """Be told of tokens on these keys: those that there are, each new one, and (`is_delete`) each that goes."""

    @abstractmethod
    async def watch_matching(self, key: str, on_change: Callable[[bool], None], *, complete: bool = False) -> None:
        """Be told whether there is a queryable that `ask` would ask: at each change, perhaps more often, and first as
        it is now."""

    async def settle(self) -> None:
        """Wait until the nodes that are linked to this one know what it has declared so far.

        Raises `ConnectionLost`, also where they don't say so in time.
        """
        await trio.lowlevel.checkpoint()

    def in_batches(self, answers: AbstractContextManager[object]) -> AbstractContextManager[object]:
        """See `Connection.in_batches`."""
        return nullcontext()

    @abstractmethod
    async def watch_subscribers(self, key: str, on_change: Callable[[bool], None]) -> None:
        """Be told whether somebody gets what is put on this key, as `watch_matching` tells it of queryables."""

    @abstractmethod
    async def flush(self) -> None:
        """Wait until the library has all that was put, asked and replied so far, or the session is lost."""

    @abstractmethod
    def watch_discarded(self, on_discarded: Callable[[int], None]) -> None:
        """Be told how many samples were discarded for want of room, when others are handed over again."""

    @abstractmethod
    def pause(self) -> None:
        """Hand over no more samples and questions; replies and ends go on.

        What comes meanwhile waits. Beyond a bound samples are discarded, and questions are closed.
        """

    @abstractmethod
    def resume(self) -> None:
        """Hand over what waits, and what comes."""

    @abstractmethod
    async def wait_until_lost(self) -> ConnectionLost:
        """Wait until nobody is linked to the node any more, and return why. Several tasks may wait."""


class _Answers:
    """Tells of the first reply, or else at the end of what there was."""

    def __init__(self, on_answer: OnAnswer) -> None:
        self._on_answer: OnAnswer | None = on_answer
        self._failure: bytes | None = None

    def replied(self, reply: Sample) -> None:
        self._tell(b"")

    def failed(self, reason: bytes) -> None:
        self._failure = reason or NO_REASON

    def ended(self) -> None:
        self._tell(self._failure)

    def _tell(self, answer: bytes | None) -> None:
        if self._on_answer is not None:
            on_answer, self._on_answer = self._on_answer, None
            on_answer(answer)


class Node(ABC):
    """A node of the network. Entering its block joins, leaving it says goodbye."""

    @abstractmethod
    async def wait_until_linked(self) -> None:
        """Wait until at least one other node is linked to this one."""

    @abstractmethod
    def open_session(self) -> AbstractAsyncContextManager[Session]:
        """Open a session: there is never more than one at a time."""
