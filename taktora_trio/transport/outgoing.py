"""Outgoing: the memory of the channels that a half writes, which its publisher sends once, in one sample."""

from __future__ import annotations

from collections.abc import Callable

from taktora_trio.transport.bell import Ringer
from taktora_trio.transport.cursor import FULL, CursorFile
from taktora_trio.transport.ports import Publishing
from taktora_trio.transport.ring import Rings
from taktora_trio.transport.spec import Direction, TrunkSpec

__all__ = ["Outgoing"]

_WORD = 8


class Outgoing:
    """The memory of the channels that this half writes."""

    def __init__(
        self,
        spec: TrunkSpec,
        direction: Direction,
        cursors: CursorFile,
        ringer: Ringer,
        served: Publishing,
        seen: int,
    ) -> None:
        """`seen` is how many readers had come before the publisher was opened."""
        address, let_go = served.allocate(spec.rings_bytes(direction) // _WORD)
        self.first = {channel.name: cursors.cursor(channel.name).used() for channel in spec.of(direction)}
        """Of each channel the last number that was used before."""
        self.rings = Rings(spec, direction, address, let_go)
        self.rings.begin(self.first, spec.by_name)
        # It stays where it is for as long as the publisher is there, which sends no other.
        served.send()
        self.on_wait: Callable[[], None] = lambda: None
        """Called when somebody may wait for the reader, which is to store its counts again if that takes long."""
        self._generation = cursors.generation(direction)
        self._generation[0] = self.rings.generation
        self._attached = cursors.attached(direction)
        self._taken = cursors.taken(direction)
        self._seen = seen
        self._ringer = ringer
        self._served = served

    @property
    def has_reader(self) -> bool:
        """True if the other half is there."""
        return self._served.has_subscriber

    @property
    def is_lacking(self) -> bool:
        """True if somebody is there to read, and has not taken our memory."""
        return self._taken[0] % FULL != self.rings.generation and self.has_reader

    @property
    def is_refused(self) -> bool:
        """True if the reader can't take our memory: what is sent would be lost if we are killed."""
        return self._taken[0] >= FULL and self.is_lacking

    def update_connections(self) -> None:
        """Give the memory to another half that has come."""
        self._generation[0] = self.rings.generation  # again, for a broken reader may have written anything there
        if self._seen != self._attached[0]:
            self._seen = self._attached[0]
            self._served.update_connections()
            self._ringer.ring_all()  # its tasks may be asleep already

    def close(self) -> None:
        self.rings.let_go()
        self._attached.release()
        self._taken.release()
        self._generation.release()
