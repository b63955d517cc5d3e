"""What travels beside a payload: pairs of a name and bytes, as the library's own serialization has them.

Others read it as a `list[tuple[str, bytes]]`, or a `dict[str, bytes]`, by `zenoh.ext.z_deserialize`. User properties
have their own names; what this package adds begins with a dot (`metadata.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Malformed", "decode", "encode"]

_LONGEST_NUMBER = 5  # bytes; no attachment has more than 32 GiB


class Malformed(ValueError):
    """The bytes are no list of pairs."""


def encode(pairs: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the pairs as bytes; none for no pairs."""
    items = list(pairs)
    if not items:
        return b""
    data = bytearray(_length(len(items)))
    for name, value in items:
        text = name.encode()
        data += _length(len(text)) + text + _length(len(value)) + value
    return bytes(data)


def decode(data: bytes) -> list[tuple[str, bytes]]:
    """Return the pairs. Raises `Malformed`."""
    if not data:
        return []
    pairs = []
    try:
        count, at = _read(data, 0)
        for _ in range(count):
            name, at = _cut(data, at)
            value, at = _cut(data, at)
            pairs.append((name.decode(), value))
    except (IndexError, UnicodeDecodeError) as exc:
        raise Malformed(str(exc)) from None
    if at != len(data):
        raise Malformed("there is something behind the last pair")
    return pairs


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


def _cut(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = _read(data, at)
    if at + size > len(data):
        raise IndexError("it ends early")
    return data[at : at + size], at + size
