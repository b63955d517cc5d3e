"""Rings: the envelopes of all channels of one direction, in the one sample that its publisher ever sends.

    the direction   generation u64, layout u64, 48 bytes unused; then a ring for each channel
    a ring          first u64, 56 bytes unused; a table u32 of slots by number % window; the slots, window + 2 of them

`generation` is a random number by which one writer's life is told from another's. `first` is the last number of the
channel that was used before. A message is put into the slot that the table has for its number, which nobody reads any
more: the window is no longer than the table. Two slots are spare, for payloads that are written while others are sent.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Mapping

from taktora_trio.transport.spec import FORMAT, ChannelSpec, Direction, RingPlace, TrunkSpec

__all__ = ["LAYOUT", "Rings"]

LAYOUT = FORMAT
_GENERATION, _LAYOUT = 0, 1  # words
_WORD = 8


class Rings:
    """All rings of one direction, as they are mapped here.

    The memory is let go of when nobody holds it any more, and no view of it is left: not even one that was forgotten
    can show memory that is not there.
    """

    def __init__(self, spec: TrunkSpec, direction: Direction, address: int, let_go: Callable[[], None]) -> None:
        """`let_go` is called when the memory is not needed any more."""
        size = spec.rings_bytes(direction)
        mapped = (ctypes.c_ubyte * size).from_address(address)  # each view of the memory keeps this
        weakref.finalize(mapped, let_go).atexit = False
        self.memory = memoryview(mapped).cast("B")
        self.places: Mapping[str, RingPlace] = spec.rings(direction)
        words = self._words(0, 2)
        self.generation, self.layout = words
        words.release()
        self._holders = 1

    def begin(self, first: Mapping[str, int], specs: Mapping[str, ChannelSpec]) -> None:
        """Begin as the writer: each channel goes on behind the number that is given for it. The memory is zero."""
        self.generation = int.from_bytes(os.urandom(8), "little") >> 1 or 1
        for name, place in self.places.items():
            window = specs[name].window
            self._words(place.at, 1)[0] = first[name]
            table = self.table(place, window)
            for index in range(window):
                table[index] = index
        head = self._words(0, 2)
        head[_LAYOUT] = LAYOUT
        head[_GENERATION] = self.generation

    def first(self, place: RingPlace) -> int:
        """Return the last number that was used before this ring: as its writer, which may be broken, has said."""
        return self._words(place.at, 1)[0]

    def table(self, place: RingPlace, window: int) -> memoryview:
        return self.memory[place.table_at : place.table_at + 4 * window].cast("I")

    def hold(self) -> None:
        """Keep the memory, until `let_go` is called once more."""
        self._holders += 1

    def let_go(self) -> None:
        self._holders -= 1
        if self._holders == 0:
            self.memory.release()

    def _words(self, at: int, count: int) -> memoryview:
        return self.memory[at : at + _WORD * count].cast("Q")
