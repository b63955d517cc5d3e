"""KeptPairs: a bounded dictionary in memory that outlives a gateway which is killed.

Two halves of the memory take turns. Each change is appended to the half in use; when that is full, what still counts is
written into the other one, which is then in use. Whatever is half written when a gateway is killed fails its checksum,
or is in the half that is not in use.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from zlib import crc32

__all__ = ["KeptPairs", "memory_for"]

_TURN = struct.Struct("<Q")  # at the beginning of each half: the higher one is in use; 0 for none
_RECORD = struct.Struct("<II")  # the size of what follows, and its checksum
_BODY = struct.Struct("<?I")  # true if the key has a value, and the size of the key
_OVERHEAD = _RECORD.size + _BODY.size


def memory_for(space: int) -> int:
    """Return the bytes of memory for pairs that take `space` together."""
    return 2 * (_TURN.size + _up(space * 5 // 4) + _RECORD.size)


class KeptPairs:
    """Values by key. When there is no room for a new one, the oldest are forgotten, and counted."""

    def __init__(self, memory: memoryview) -> None:
        """Go on with what is in the memory, of `memory_for` bytes: zeros, or what an earlier gateway has left."""
        self.forgotten = 0
        """Counts the pairs for which there was no room."""
        self._memory = memory  # and no slice of it: its owner could not unmap it
        self._half = len(memory) // 2
        self._pairs: dict[str, bytes] = {}
        turns = [_TURN.unpack_from(memory, begin)[0] for begin in (0, self._half)]
        self._begin = 0 if turns[0] > turns[1] else self._half  # of the half in use
        self._turn = max(turns)
        self._at = self._read() if self._turn else self._begin + _TURN.size
        if not self._turn:
            self._compact()

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def get(self, key: str) -> bytes | None:
        return self._pairs.get(key)

    def set(self, key: str, value: bytes) -> None:
        """Keep this value, instead of the one before."""
        self._pairs.pop(key, None)  # the newest comes last
        self._pairs[key] = value
        self._append(key, value)

    def discard(self, key: str) -> None:
        """Forget the value of this key, if there is one."""
        if self._pairs.pop(key, None) is not None:
            self._append(key, None)

    def _append(self, key: str, value: bytes | None) -> None:
        record = _record(key, value)
        if self._at + len(record) + _RECORD.size > self._begin + self._half:
            self._compact()
        else:
            self._write(record)

    def _compact(self) -> None:
        """Write what counts into the other half, and use that one."""
        # A fifth stays free for changes, so that this is rare.
        room = (self._half - _TURN.size - _RECORD.size) * 4 // 5
        sizes = {key: _size(key, value) for key, value in self._pairs.items()}
        used = sum(sizes.values())
        for key, size in sizes.items():  # the oldest first
            if used <= room:
                break
            del self._pairs[key]
            self.forgotten += 1
            used -= size
        self._begin = self._half - self._begin
        self._at = self._begin + _TURN.size
        _TURN.pack_into(self._memory, self._begin, 0)
        _RECORD.pack_into(self._memory, self._at, 0, 0)
        for key, value in self._pairs.items():
            self._write(_record(key, value))
        self._turn += 1
        _TURN.pack_into(self._memory, self._begin, self._turn)

    def _write(self, record: bytes) -> None:
        """Write it behind what there is, so that it is there from one moment to the next."""
        at, memory = self._at, self._memory
        end = self._at = at + len(record)
        _RECORD.pack_into(memory, end, 0, 0)
        memory[at + _RECORD.size : end] = record[_RECORD.size :]
        memory[at : at + _RECORD.size] = record[: _RECORD.size]

    def _read(self) -> int:
        """Read the half in use, as far as it can be read, and return where that ends."""
        memory, at, end = self._memory, self._begin + _TURN.size, self._begin + self._half
        while at + _OVERHEAD <= end:
            size, checksum = _RECORD.unpack_from(memory, at)
            body = bytes(memory[at + _RECORD.size : min(at + _RECORD.size + size, end)])
            if size < _BODY.size or len(body) < size or crc32(body) != checksum:
                break
            has_value, key_size = _BODY.unpack_from(body)
            try:
                key = body[_BODY.size : _BODY.size + key_size].decode()
            except UnicodeDecodeError:
                break
            self._pairs.pop(key, None)
            if has_value:
                self._pairs[key] = body[_BODY.size + key_size :]
            at += _up(_RECORD.size + size)
        return at


def _size(key: str, value: bytes) -> int:
    return _up(_OVERHEAD + len(key.encode()) + len(value))


def _record(key: str, value: bytes | None) -> bytes:
    text = key.encode()
    body = _BODY.pack(value is not None, len(text)) + text + (value or b"")
    record = _RECORD.pack(len(body), crc32(body)) + body
    return record.ljust(_up(len(record)), b"\0")


def _up(size: int) -> int:
    """Return the size up to a whole number of words."""
    return -(-size // 8) * 8
