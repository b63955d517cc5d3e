"""Numbering: what an acknowledged message says of its place among those of its sender. Pure."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["AGAIN", "NUMBER", "SENDER", "Numbering"]

# Names of pairs in the attachment.
SENDER = ".sender"
"""Names one channel of one gateway's process."""
NUMBER = ".number"
"""Three decimal numbers with a space between them: see `Numbering`."""
AGAIN = ".again"
"""Is there if it was sent before."""

_DIGITS = 19  # of a number
_LONGEST = 3 * _DIGITS + 2


class Numbering(NamedTuple):
    """The place of a message among those of one sender, which is one channel of one gateway's process."""

    number: int
    """Grows from message to message, by at least 1."""
    before: int
    """The number of the last one before it that nobody has acknowledged; 0 if it is the oldest of these."""
    oldest: int
    """The number of the oldest one that nobody has acknowledged."""

    def encoded(self) -> bytes:
        return b"%d %d %d" % self

    @classmethod
    def decoded(cls, data: bytes) -> Numbering | None:
        """Return what the bytes say; `None` if they mean nothing."""
        parts = data.split(b" ") if len(data) <= _LONGEST else ()
        if len(parts) != 3 or not all(map(bytes.isdigit, parts)) or max(map(len, parts)) > _DIGITS:
            return None
        number, before, oldest = map(int, parts)
        return cls(number, before, oldest) if before < number and 0 < oldest <= number else None
