"""Somebody else on the network who acknowledges, and sends again, as one host whose answers keep their order."""

from __future__ import annotations

import itertools
import math
import time
from functools import partial

import trio

from taktora_trio import Envelope, Header, RawCodec
from taktora_trio.connectors.zenoh.metadata import Carrier
from taktora_trio.connectors.zenoh.queries.acknowledged_outbound import AcknowledgedChannel
from taktora_trio.connectors.zenoh.session import Quality, Question, Session

__all__ = ["Host"]

_QUALITY = Quality()
_PATIENCE = 1.0  # seconds for a receiver to have looked at what it was sent, unless it reads nothing


class Host:
    """What somebody gets it acknowledges at once, and knows no repeats. What it publishes it keeps until somebody has
    acknowledged it.

    To a receiver that has come it sends what it has kept, and waits until that has looked at it, before it answers
    anybody. So whoever has an answer has had that: a broker does the same, on one connection. Between two nodes of
    Zenoh nothing else says that one message was before another one.
    """

    def __init__(self, session: Session, nursery: trio.Nursery) -> None:
        self._session, self._nursery = session, nursery
        self._put, self._take = trio.open_memory_channel[tuple[str, bytes]](math.inf)
        self._numbers = itertools.count(1)
        self._sending: dict[str, AcknowledgedChannel] = {}  # by their topics
        self._there: set[str] = set()  # topics that somebody takes
        self._coming = 0  # receivers that have come, and did not look yet at what was kept for them
        self._held: list[Question] = []  # which are answered then

    async def start(self, *keys: str) -> None:
        """Take what is asked on these keys."""
        for key in keys:
            await self._session.answer(key, self._asked, others_only=True)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish behind what was published on this topic before."""
        await trio.lowlevel.checkpoint()
        if topic not in self._sending:
            sending = AcknowledgedChannel(
                topic, _QUALITY, self._session, f"outsider/{topic}", Carrier(RawCodec()).carry
            )
            self._sending[topic] = sending
            self._nursery.start_soon(sending.serve)
            await self._session.watch_matching(topic, partial(self._matching, topic), complete=True)
        header = Header(next(self._numbers), time.time_ns())
        self._sending[topic].publish(Envelope(payload, header, topic), _done)

    async def receive(self) -> tuple[str, bytes]:
        """Wait for the next message, and return its topic and its payload."""
        return await self._take.receive()

    async def until_left(self) -> None:
        """Wait until nobody takes what it publishes, and it knows what of it was not taken."""
        while self._there or any(sending.on_their_way for sending in self._sending.values()):  # noqa: ASYNC110
            await trio.sleep(0.002)

    def _asked(self, question: Question) -> None:
        self._put.send_nowait((question.key, bytes(question.payload)))
        self._held.append(question)
        self._answer()

    def _answer(self) -> None:
        if not self._coming:
            for question in self._held:
                question.reply(question.key, b"")
                question.close()
            self._held.clear()

    def _matching(self, topic: str, has_receiver: bool) -> None:
        self._sending[topic].matching(has_receiver)
        if not has_receiver:
            self._there.discard(topic)
        elif topic not in self._there:
            self._there.add(topic)
            self._coming += 1
            self._nursery.start_soon(self._send_what_was_kept, topic)

    async def _send_what_was_kept(self, topic: str) -> None:
        while topic in self._there and self._sending[topic].waiting:  # noqa: ASYNC110 - it tells nobody
            await trio.sleep(0.002)
        # Behind all that, a question that says nothing: it ends when it was looked at.
        ended = trio.Event()
        self._session.ask(topic, b"", _QUALITY, "", b"", _PATIENCE, _ignore, _ignore, ended.set, complete=True)
        await ended.wait()
        self._coming -= 1
        self._answer()


def _done(number: int, refusal: str) -> None:
    """Nothing waits for it."""


def _ignore(reply: object) -> None:
    """Nobody replies to nothing."""
