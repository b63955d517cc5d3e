"""Messages that a reader could not read: each as it came, and a bounded list of the last ones."""

from __future__ import annotations

from collections import deque

import attrs

from taktora_trio.errors import MessageError, TransportError

__all__ = ["Rejected", "RejectedMessages"]

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


def _forget_frames(exc: BaseException | None) -> None:
    """Let go of what tracebacks refer to: views of shared memory, which is soon written again."""
    while exc is not None:
        exc.__traceback__ = None
        if exc.__cause__ is None:
            exc.__context__ = None
        exc = exc.__cause__
