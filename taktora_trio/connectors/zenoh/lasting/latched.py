"""The last value of each key of latched channels, which this gateway has published: for whoever asks later.

A queryable tells it, so plain clients ask by `session.get(key)`, as they ask a router's storage. A liveliness token
beside the key tells those who are there already that somebody is to be asked, whose values they have missed.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial

import msgspec
from msgspec.structs import replace

from taktora_trio.channels import Envelope, Metadata
from taktora_trio.connectors.zenoh.keys import intersects, is_pattern
from taktora_trio.connectors.zenoh.keytree import minimal_expressions
from taktora_trio.connectors.zenoh.lasting.kept_pairs import KeptPairs
from taktora_trio.connectors.zenoh.metadata import attached
from taktora_trio.connectors.zenoh.session import Quality, Question, Sample, Session
from taktora_trio.errors import is_worth_logging

__all__ = ["TOKENS", "LastValues"]

log = logging.getLogger(__name__)

TOKENS = "@latched"
"""The chunk between the key expression of latched values and an id of whoever has them."""
SHOWN_FOR = 60.0  # seconds for which a value that is forgotten shows in the health


class _Value(msgspec.Struct, frozen=True, gc=False, array_like=True):
    payload: bytes
    encoding: str
    timestamp: str
    metadata: Metadata | None
    correlation_id: bytes
    expires: int
    """In nanoseconds by the clock of `_now`; 0 for never."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Value).decode


class LastValues:
    """It lives as long as the gateway. What it keeps outlives a gateway that is killed, though not the run."""

    def __init__(
        self,
        expressions: Iterable[str],
        memory: memoryview,
        degrade: Callable[[str, float], None],
        *,
        others_only: bool = False,
    ) -> None:
        """`expressions` are those of the channels, and `memory` is for a `KeptPairs`. `degrade(reason, seconds)` shows
        that values were forgotten. With `others_only` this node's own channels do not get them."""
        self._degrade, self._others_only = degrade, others_only
        self._expressions = minimal_expressions(expressions)
        self._kept = KeptPairs(memory)
        self._forgotten = 0

    async def start(self, session: Session) -> None:
        """Answer on this session, and be heard of. Raises `ConnectionLost`."""
        for expression in self._expressions:
            await session.subscribe(expression, self._others_put, stamped=True, others_only=True)
            await session.answer(expression, self._asked, complete=False, others_only=self._others_only)
            await session.token(f"{expression}/{TOKENS}/{uuid.uuid4().hex}")  # last: whoever sees it can ask

    def put(
        self,
        session: Session,
        envelope: Envelope,
        quality: Quality,
        beside: tuple[str, bytes],
        on_written: Callable[[], None],
    ) -> None:
        """Put it, with the encoding and the attachment `beside` it, and keep it. Without a payload delete the value."""
        stamp, encoding = self.keep(session, envelope, beside[0]), beside[0]
        if envelope.payload:
            session.put(envelope.topic, envelope.payload, quality, encoding, beside[1], on_written, timestamp=stamp)
        else:
            session.delete(envelope.topic, quality, beside[1], on_written, timestamp=stamp)

    def keep(self, session: Session, envelope: Envelope, encoding: str) -> str:
        """Keep it, or keep nothing where it has no payload, and return its timestamp."""
        key, metadata, stamp = envelope.topic, envelope.metadata, session.timestamp()
        before = self._get(key)
        if before is not None and before.timestamp >= stamp:  # somebody has set the clock back
            stamp = _later(before.timestamp, stamp)
        if not envelope.payload:
            self._kept.discard(key)
            return stamp
        life = None if metadata is None else metadata.message_expiry
        expires = 0 if life is None else _now() + life * 10**9
        correlation_id = envelope.header.correlation_id
        value = _Value(bytes(envelope.payload), encoding, stamp, metadata, correlation_id, expires)
        self._kept.set(key, _encode(value))
        if self._kept.forgotten != self._forgotten:
            self._tell_forgotten()
        return stamp

    def _get(self, key: str) -> _Value | None:
        content = self._kept.get(key)
        if content is None:
            return None
        try:
            return _decode(content)
        except msgspec.MsgspecError:  # of another version, or anybody's
            self._kept.discard(key)
            return None

    def _asked(self, question: Question) -> None:
        if not question.payload:  # else it is a request, or a message, and no wish to know
            if is_pattern(question.key):
                keys = [key for key in self._kept if intersects(question.key, key)]
            else:
                keys = [question.key]
            for key in keys:
                self._tell(question, key)
        question.close()

    def _tell(self, question: Question, key: str) -> None:
        value = self._get(key)
        if value is None:
            return
        metadata = value.metadata
        if value.expires and metadata is not None:
            left = math.ceil((value.expires - _now()) / 10**9)
            if left <= 0:
                self._kept.discard(key)
                return
            metadata = replace(metadata, message_expiry=left)
        beside = attached(metadata, value.correlation_id)
        question.reply(key, value.payload, value.encoding, beside, timestamp=value.timestamp)

    def _others_put(self, sample: Sample) -> None:
        """Heed a delete. What else others put there they may keep themselves: the newest counts."""
        if not sample.is_delete:
            return
        value = self._get(sample.key)
        if value is not None and not (sample.timestamp and sample.timestamp < value.timestamp):
            self._kept.discard(sample.key)

    def _tell_forgotten(self) -> None:
        count = self._forgotten = self._kept.forgotten
        if is_worth_logging(count):
            log.warning(
                "latched values take more than latched_space, and %d were forgotten so far, the oldest first",
                count,
                extra={"event": "latched-forgotten", "count": count},
            )
        self._degrade("latched values are forgotten: raise latched_space", SHOWN_FOR)


def _later(than: str, stamp: str) -> str:
    """Return the stamp with the time a nanosecond later than that of another one."""
    seconds, _, ns = than.partition("Z/")[0].partition(".")
    count = int(ns) + 1
    if count == 10**9:
        seconds, count = (datetime.fromisoformat(seconds) + timedelta(seconds=1)).isoformat(), 0
    return f"{seconds}.{count:09}Z/{stamp.partition('/')[2]}"


_now = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)
