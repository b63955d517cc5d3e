"""The messages of all benchmarks, of 100 bytes or more: numbered, so that a lost or doubled one is noticed."""

from __future__ import annotations

from struct import Struct

__all__ = ["LENGTH", "Tally", "check_answer", "pack", "read_due", "read_text", "scheduled", "text"]

LENGTH = 100
_MARK = Struct("<QQ")
_REST = bytes(LENGTH - _MARK.size)
_DIGITS = 20
_LAST, _NOT_LAST = b"!", b"."


def pack(number: int, *, answer: bool = False) -> bytes:
    """Return message `number`, from 1 up; `answer` asks the receiver to send it back."""
    return _MARK.pack(number, answer) + _REST


def text(number: int, *, last: bool = False, length: int = LENGTH) -> bytes:
    """Return message `number` in printable characters (for `mosquitto_pub -l`); `last` asks to be told of it."""
    return (b"%020d" % number + (_LAST if last else _NOT_LAST)).ljust(length, b"-")


def scheduled(number: int, due: int, *, last: bool = False, length: int = LENGTH) -> bytes:
    """Return such a message that also says when it was to be sent, by the system's monotonic clock in ns."""
    return (b"%020d%b%020d" % (number, _LAST if last else _NOT_LAST, due)).ljust(length, b"-")


def read_due(message: bytes) -> int:
    return int(message[_DIGITS + 1 : 2 * _DIGITS + 1])


def read_text(message: bytes) -> tuple[int, bool]:
    """Return the number, and true if it is the last."""
    return int(message[:_DIGITS]), message[_DIGITS : _DIGITS + 1] == _LAST


def check_answer(answer: object, sent: bytes) -> None:
    if answer != sent:
        raise RuntimeError("the answer is not what was sent last")


class Tally:
    """Counts messages and insists that they are 1, 2, 3, ..., each of full length."""

    def __init__(self) -> None:
        self.count = 0

    def take(self, message: bytes) -> bool:
        """Return true if the sender asks for an answer. Raises `RuntimeError` for any other message than the next."""
        number, answer = _MARK.unpack_from(message)
        self.count += 1
        if number != self.count or len(message) != LENGTH:
            raise RuntimeError(f"message {number} of {len(message)} bytes came where {self.count} was to come")
        return bool(answer)
