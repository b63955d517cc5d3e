"""What travels beside a payload: pairs of a name and bytes, as the library's own serialization has them.

Others read it as a `list[tuple[str, bytes]]`, or a `dict[str, bytes]`, by `zenoh.ext.z_deserialize`. User properties
have their own names; what this package adds begins with a dot (`metadata.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

__all__ = ["Malformed", "decode", "encode"]

_LONGEST_NUMBER = 5  # bytes; no attachment has more than 32 GiB


class Malformed(ValueError):
    """The bytes are no list of pairs."""


def encode(pairs: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the pairs as bytes; none for no pairs."""
    parts = [b""]
    for name, value in pairs:
        size = len(value)
        text = _name(name) if len(name) <= _USUAL else _name.__wrapped__(name)
        parts += (text, _SHORT[size] if size < 0x80 else _length(size), value)
    if len(parts) == 1:
        return b""
    parts[0] = _length(len(parts) // 3)
    return b"".join(parts)


def decode(data: bytes) -> list[tuple[str, bytes]]:
    """Return the pairs. Raises `Malformed`."""
    if not data:
        return []
    pairs = []
    end = len(data)
    try:
        count, at = _read(data, 0)
        for _ in range(count):
            size = data[at]
            start = at + 1
            if size >= 0x80:
                size, start = _read(data, at)
            at = start + size
            name = data[start:at].decode()
            size = data[at]
            start = at + 1
            if size >= 0x80:
                size, start = _read(data, at)
            at = start + size
            if at > end:
                raise IndexError("it ends early")
            pairs.append((name, data[start:at]))
    except (IndexError, UnicodeDecodeError) as exc:
        raise Malformed(str(exc)) from None
    if at != end:
        raise Malformed("there is something behind the last pair")
    return pairs


_USUAL = 64  # characters of a name that is kept
_SHORT = [bytes([size]) for size in range(0x80)]


@lru_cache(maxsize=256)  # few are in use, and each message has some
def _name(name: str) -> bytes:
    text = name.encode()
    return _length(len(text)) + text


def _length(number: int) -> bytes:
    """Return it as LEB128."""
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def _read(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place in range(_LONGEST_NUMBER):
        byte = data[at + place]
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    raise IndexError("a length has too many bytes")
