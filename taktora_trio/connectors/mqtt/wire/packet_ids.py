"""PacketIds: a set of packet identifiers in memory that may outlive the process that writes it."""

from __future__ import annotations

__all__ = ["PacketIds"]

_ALL = 2**16


class PacketIds:
    """A set of packet identifiers, a bit each. In a memory that outlives a killed gateway the next one finds it."""

    SIZE = _ALL // 8
    """The bytes of memory that it takes."""

    def __init__(self, memory: memoryview | None = None) -> None:
        self._bits = memoryview(bytearray(self.SIZE)) if memory is None else memory

    def __contains__(self, packet_id: int) -> bool:
        return bool(self._bits[packet_id >> 3] & 1 << (packet_id & 7))

    def add(self, packet_id: int) -> None:
        self._bits[packet_id >> 3] |= 1 << (packet_id & 7)

    def discard(self, packet_id: int) -> None:
        self._bits[packet_id >> 3] &= ~(1 << (packet_id & 7))

    def clear(self) -> None:
        self._bits[:] = bytes(self.SIZE)
