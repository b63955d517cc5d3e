"""Messages that a reader could not read: each as it came, what becomes of it, and a bounded list of the last ones."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Literal, TypeAlias

import attrs

from taktora_trio.errors import CodecError, MessageError, TransportError, is_worth_logging, summary
from taktora_trio.escaping import escaped

__all__ = ["OnError", "Rejected", "RejectedMessages", "Unreadable"]

log = logging.getLogger(__name__)

_MOST = 32  # messages that are kept
_MOST_BYTES = 64 * 1024  # of all their payloads together


@attrs.frozen
class Rejected:
    """An inbound message that can't be read."""

    topic: str
    """The concrete topic it was published on; if the envelope itself can't be read, the channel's."""
    payload: bytes = attrs.field(repr=lambda payload: repr(payload[:40]))
    """Its payload as it came; if the envelope itself can't be read, the first bytes of that. In `reader.rejected` it is
    cut off where it is very long."""
    error: MessageError | TransportError
    """Why it can't be read."""
    length: int
    """Bytes of the payload before it was cut off."""


OnError: TypeAlias = Literal["keep", "raise", "dead-letter"] | Callable[[Rejected], object]
"""The choices for a message that can't be read: see `ConnectorHost.open_reader`."""


class RejectedMessages:
    """The last rejected messages, bounded in number and in bytes."""

    def __init__(self) -> None:
        self._kept: deque[Rejected] = deque(maxlen=_MOST)

    def add(self, rejected: Rejected) -> None:
        _forget_frames(rejected.error)
        if len(rejected.payload) > _MOST_BYTES:
            rejected = attrs.evolve(rejected, payload=rejected.payload[:_MOST_BYTES])
        self._kept.append(rejected)
        while sum(len(kept.payload) for kept in self._kept) > _MOST_BYTES:
            self._kept.popleft()

    def kept(self) -> tuple[Rejected, ...]:
        """Return them, the newest last."""
        return tuple(self._kept)


class Unreadable:
    """Does with each message that can't be read what `on_error` says."""

    def __init__(
        self,
        name: str,
        on_error: OnError,
        on_rejected: Callable[[], None],
        done: Callable[[int], None],
        give_up: Callable[[int, str, int], None],
    ) -> None:
        self.count = 0
        self._name = name
        self._on_error = on_error
        self._on_rejected = on_rejected
        self._done = done
        self._give_up = give_up
        self._kept = RejectedMessages()

    def kept(self) -> tuple[Rejected, ...]:
        return self._kept.kept()

    def reject(self, exc: Exception, topic: str, raw: memoryview, number: int, delivery_id: int) -> None:
        """Do with a message that can't be read what `on_error` says; its number is 0 if it is acknowledged already."""
        self.count += 1
        error: MessageError | TransportError
        if isinstance(exc, TransportError):
            error = exc
        else:
            why = str(exc) if isinstance(exc, MessageError) else summary(exc)
            error = CodecError(f"a message on {topic!r} can't be decoded: {why}", topic=topic)
            error.__cause__ = exc
        if self._on_error == "raise":
            raise error
        if self._on_error == "dead-letter":
            self._on_rejected()
            if number:
                self._give_up(number, str(error), delivery_id)
            return
        rejected = Rejected(topic, bytes(raw), error, len(raw))
        if callable(self._on_error):
            self._on_error(rejected)
        else:
            self._kept.add(rejected)
            self._on_rejected()
            if is_worth_logging(self.count):
                log.error(
                    "%s: a message can't be read (%d so far): %s; see reader.rejected",
                    self._name,
                    self.count,
                    escaped(str(error)),
                    extra={"event": "message-unreadable", "service": self._name, "count": self.count},
                )
        if number:
            self._done(number)


def _forget_frames(exc: BaseException | None) -> None:
    """Let go of what tracebacks refer to: views of shared memory, which is soon written again."""
    while exc is not None:
        exc.__traceback__ = None
        if exc.__cause__ is None:
            exc.__context__ = None
        exc = exc.__cause__
