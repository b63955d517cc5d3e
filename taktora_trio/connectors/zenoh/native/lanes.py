"""Queries that take one answer each, in the order in which they were asked: a lane for each acknowledged channel.

A thread of Python's own waits for the answers, as long as there are any. For the library to call back costs three times
as much: each call would be in a thread that Python does not know yet, and wait there for the GIL.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import TypeAlias

import trio
import zenoh

from taktora_trio.connectors.zenoh.native.values import failure_of
from taktora_trio.connectors.zenoh.session import NO_REASON, OnAnswer

__all__ = ["MOST_REPLIES", "Lane", "Replies"]

Replies: TypeAlias = "zenoh.Handler[zenoh.Reply]"

MOST_REPLIES = 1024
"""Replies to one query that may wait for its turn. One more would hold up all that the session reads until then; there
are as many as there are receivers."""
_BATCH = 64
_MOST_OPEN = 1024


class Lane:
    """Waits for the answers to queries, one after the other."""

    def __init__(self, tell: Callable[[Callable[[], None]], None]) -> None:
        """`tell` has something called in trio's thread."""
        self._tell = tell
        self._queries: SimpleQueue[tuple[Replies, OnAnswer] | None] = SimpleQueue()
        self._answered: list[tuple[OnAnswer, bytes | None]] = []  # and not yet told
        self._open: deque[Replies] = deque()  # were answered, and did not end yet
        self.put = self._queries.put
        """Takes a query that was sent."""

    async def serve(self) -> None:
        """Serve until it is closed, and every query of it has ended: whoever cancels this sees to both."""
        try:
            await trio.to_thread.run_sync(self._run, limiter=trio.CapacityLimiter(1))
        finally:
            self.close()

    def close(self) -> None:
        """Take no more."""
        self.put(None)

    # In the thread

    def _run(self) -> None:
        queries, answered = self._queries, self._answered
        while (query := queries.get()) is not None:
            replies, on_answer = query
            answered.append((on_answer, self._answer(replies)))
            if len(answered) >= _BATCH or queries.empty():
                self._tell_answered()

    def _answer(self, replies: Replies) -> bytes | None:
        failure = None
        try:
            while True:
                reply = replies.try_recv()
                if reply is None:
                    self._tell_answered()
                    reply = replies.recv()
                if reply.ok is not None:
                    self._keep_until_ended(replies)
                    return b""
                if (reason := failure_of(reply)) is not None:
                    failure = reason or NO_REASON
        except zenoh.ZError:  # it has ended
            return failure

    def _keep_until_ended(self, replies: Replies) -> None:
        """Take what else comes: the library complains in its log where nobody does."""
        still_open = self._open
        still_open.append(replies)
        with contextlib.suppress(zenoh.ZError):
            _take_all(still_open[0])
            if len(still_open) <= _MOST_OPEN:
                return
        still_open.popleft()
        if still_open:  # so that they become fewer
            with contextlib.suppress(zenoh.ZError):
                _take_all(still_open[0])
                return
            still_open.popleft()

    def _tell_answered(self) -> None:
        if self._answered:
            answered = self._answered.copy()
            self._answered.clear()
            self._tell(partial(_tell_all, answered))


def _take_all(replies: Replies) -> None:
    """Take all that has come. Raises `ZError` if the query has ended."""
    while replies.try_recv() is not None:
        pass


def _tell_all(answered: list[tuple[OnAnswer, bytes | None]]) -> None:
    for on_answer, answer in answered:
        on_answer(answer)
