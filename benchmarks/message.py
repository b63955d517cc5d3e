"""The 100 bytes that every benchmark sends: numbered, so that a lost or doubled message is noticed."""

from __future__ import annotations

from struct import Struct

__all__ = ["LENGTH", "Tally", "pack"]

LENGTH = 100
_MARK = Struct("<QQ")
_REST = bytes(LENGTH - _MARK.size)


def pack(number: int, *, answer: bool = False) -> bytes:
    """Message `number`, from 1 up; `answer` asks the receiver to send it back."""
    return _MARK.pack(number, answer) + _REST


class Tally:
    """Counts messages and insists that they are 1, 2, 3, ..., each of full length."""

    def __init__(self) -> None:
        self.count = 0

    def take(self, message: bytes) -> bool:
        """Return whether the sender asks for an answer. Raises `RuntimeError` for any other message than the next."""
        number, answer = _MARK.unpack_from(message)
        self.count += 1
        if number != self.count or len(message) != LENGTH:
            raise RuntimeError(f"message {number} of {len(message)} bytes came where {self.count} was to come")
        return bool(answer)
