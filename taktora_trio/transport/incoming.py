"""Incoming: the memory of the channels that a half reads, of the present writer and of those before it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

from taktora_trio.errors import TransportError
from taktora_trio.transport.cursor import FULL, CursorFile
from taktora_trio.transport.ports import Sample, Taking
from taktora_trio.transport.ring import LAYOUT, Rings
from taktora_trio.transport.spec import KEPT_WRITERS, Direction, TrunkSpec

__all__ = ["Incoming"]

log = logging.getLogger(__name__)

_AT_ONCE = 64  # a broken writer may send sample after sample
_WORD = 8


class _Reader(Protocol):
    ring: Callable[[], int]

    def renewed(self, rings: Rings) -> None: ...

    def look(self) -> None: ...

    def store_again(self) -> None: ...

    @property
    def is_disputed(self) -> bool: ...

    def confirm(self) -> None: ...

    def close(self) -> None: ...


class Incoming:
    """The memory of the channels that this half reads: that of the present writer, and what earlier ones have left."""

    def __init__(self, spec: TrunkSpec, direction: Direction, cursors: CursorFile, subscriber: Taking) -> None:
        self.generation = cursors.generation(direction)
        """The word that says which writer's rings are the present ones; 0 while a writer begins."""
        self.direction = direction
        self._spec = spec
        self._subscriber = subscriber
        self._taken = cursors.taken(direction)
        self._taken[0] = 0
        self._attached = cursors.attached(direction)
        self._told_of = 0  # the generation of the rings that were taken last
        self._readers: dict[_Reader, None] = {}  # in order; a list would be searched for each that leaves
        self.on_doubt: Callable[[], None] = lambda: None
        """Called when what is read can't be: the writer is to store its counts again."""
        self._newest: Rings | None = None
        self._held = 0  # of how many writers
        self._is_renewing = False
        self._closed = False
        self._has_told = False

    def renew(self) -> None:
        """Take the memory of writers that have come. It is ours then, even if they are killed."""
        if self._is_renewing:  # it lets go of another one's
            return
        self._is_renewing = True
        try:
            self._renew()
        finally:
            self._is_renewing = False

    def _renew(self) -> None:
        for _ in range(_AT_ONCE):
            if self._held >= KEPT_WRITERS:
                self._tell(f"what {self._held} writers have left is not read: no more is taken until some of it is")
                return
            try:
                sample = self._subscriber.receive()
            except TransportError as exc:
                self._tell(f"the memory of a writer can't be taken yet: {exc}")
                return
            if sample is None:
                return
            rings = self._rings_in(sample)
            if rings is None:
                continue
            self._told_of = rings.generation
            self._say_what_is_taken()
            if self._newest is not None and self._newest.generation == rings.generation:
                rings.let_go()  # ours already: we have been opened again
                continue
            before, self._newest = self._newest, rings
            for reader in self._readers:
                reader.renewed(rings)
            if before is not None:
                before.let_go()

    @property
    def is_lacking(self) -> bool:
        """True if somebody is there to write whose memory we have not got, though we would take it."""
        missing = self.generation[0] == 0 or self.generation[0] != self._told_of
        return missing and self._held < KEPT_WRITERS and self._subscriber.has_publisher

    async def open_again(self) -> None:
        """Try again to take the memory of the present writer, which has to do its part when it is rung."""
        await self._subscriber.open()
        self.announce()
        self.renew()

    def announce(self) -> None:
        """Have the writer see that a reader has come."""
        self._attached[0] = (self._attached[0] + 1) % 2**63

    def look_around(self) -> None:
        """Take the memory of a writer that has come, and let go of what a former one has left, if all of it is read."""
        self._say_what_is_taken()  # again, for a broken writer may have written anything there
        for reader in list(self._readers):
            reader.store_again()
        newest = self._newest
        if newest is None or newest.generation != self.generation[0]:
            self.renew()
            for reader in list(self._readers):
                reader.look()
            if self.generation[0] == 0:
                self.forget(newest)

    @property
    def is_disputed(self) -> bool:
        """True if the writer's count of a channel says that there is an envelope which is not there."""
        return any(reader.is_disputed for reader in self._readers)

    def confirm(self) -> None:
        """Believe what the writer has said again, however often it was asked."""
        for reader in list(self._readers):
            reader.confirm()

    def forget(self, rings: Rings | None) -> None:
        """Do not keep these rings for readers that are opened later: their writer is gone."""
        if rings is not None and rings is self._newest:
            self._newest = None
            self._told_of = self._taken[0] = 0  # if it is not gone, we want it again
            rings.let_go()

    def add(self, reader: _Reader) -> None:
        """Give this reader the present rings, and all that come."""
        self._readers[reader] = None
        if self._newest is not None:
            reader.renewed(self._newest)

    def remove(self, reader: _Reader) -> None:
        del self._readers[reader]

    def close(self) -> None:
        self._closed = True
        for reader in list(self._readers):
            reader.close()
        if self._newest is not None:
            self._newest.let_go()
            self._newest = None
        for word in (self.generation, self._taken, self._attached):
            word.release()

    def _rings_in(self, sample: Sample) -> Rings | None:
        spec, direction = self._spec, self.direction
        words = sample.words
        if words * _WORD >= spec.rings_bytes(direction):
            self._held += 1
            rings = Rings(spec, direction, sample.address, partial(self._let_go, sample))
            if rings.layout == LAYOUT:
                return rings
            rings.let_go()
        else:
            sample.delete()
        self._tell(f"{words} words have come that are no rings; is another program writing to this service?")
        return None

    def _let_go(self, sample: Sample) -> None:
        was_full = self._held >= KEPT_WRITERS
        self._held -= 1
        sample.delete()
        if not self._closed:
            self.renew()  # else its memory stays mapped until then
            if was_full:
                self._say_what_is_taken()
                for reader in self._readers:
                    reader.ring()  # a writer waits for that

    def _say_what_is_taken(self) -> None:
        self._taken[0] = self._told_of | (FULL if self._held >= KEPT_WRITERS else 0)

    def _tell(self, what: str) -> None:
        if not self._has_told:
            self._has_told = True
            log.error("%s: %s", self._spec.service(self.direction), what, extra={"event": "ring-nonsense"})
