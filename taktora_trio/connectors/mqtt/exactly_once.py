"""QoS 2 outbound, over connections and gateways: the broker takes no message twice, nor one for another."""

from __future__ import annotations

import struct
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from taktora_trio.channels import Header
from taktora_trio.connectors.mqtt.sessions.session import Session
from taktora_trio.connectors.mqtt.wire.message import Message, OnDone

if TYPE_CHECKING:
    from taktora_trio.connectors.source import Source

__all__ = ["MEMORY", "ExactlyOnce"]

_STAY = struct.Struct("<QQQ")  # as ExactlyOnce._stay
_BROKERS = 8  # that are remembered beside the present one
_LEFT = struct.Struct(f"<{2 * _BROKERS}Q")  # as ExactlyOnce._left: brokers, each with its number; zeros for none
MEMORY = _STAY.size + _LEFT.size


class ExactlyOnce:
    """Publishes one channel at QoS 2. It outlives connections; what was begun outlives the gateway, too.

    An earlier app, with a numbering of its own, may have left exchanges half done under the channel's identifiers. They
    are completed before anything is published for the first time. Each message is recorded, in the app's shared memory
    or on disk, before it is published: the next gateway then knows that the broker may hold this message under its
    identifier.
    """

    def __init__(self, packet_ids: range, source: Source, memory: memoryview | None = None) -> None:
        """A message's identifier is that of `packet_ids` which its number, modulo their count, stands for.

        `memory` of `MEMORY` bytes outlives the gateway; it is for a client of several brokers."""
        self._memory = memory
        # The broker where something was published last, and what `_elsewhere` and `_here` were there.
        self._stay = (0, 0, 0)
        self._left: dict[int, int] = {}  # of other brokers: the last number that was begun there, the latest left last
        if memory is not None:  # of the gateway before
            self._stay = _STAY.unpack_from(memory)
            left = _LEFT.unpack_from(memory, _STAY.size)
            self._left = {at: number for at, number in zip(left[::2], left[1::2], strict=True) if at and number}
        self._at = self._stay[0]  # the broker, as `connected` names it
        # What was begun up to this number may have been begun at another broker; `None` for all that is begun by now.
        self._elsewhere: int | None = self._stay[1]
        self._here = self._stay[2]  # and of these, all up to this one were published at this broker, too
        self._packet_ids = packet_ids
        self._first_id = packet_ids[0]
        self._source = source
        self._begun: int | None = None  # looked up when the first message comes: a store may be slow to open
        self._unknown: set[int] = set()  # packet identifiers under which the broker may hold another message
        self._set_aside: list[int] = []  # of messages that were set aside, until the next connection
        self._held: deque[tuple[Message, int, Header, OnDone]] = deque()  # until all is known and recorded
        self._session: Session | None = None

    def connected(self, session: Session, at: int = 0) -> None:
        """Publish on this session from now on.

        Where there are several brokers, each with a session of its own, `at` names the one of this connection. What was
        on its way at another one is published anew here, and may so arrive twice: each may have it, and neither knows
        of the other's. First this one completes what it may hold under the same identifiers of an earlier time.
        """
        self._held.clear()
        moved = at != self._at
        self._at = at
        if moved:
            self._elsewhere = None
            self._here = 0
            self._unknown.clear()
        if not session.session_present:
            self._unknown.clear()
        elif self._session is None or moved:
            self._unknown.update(self._packet_ids)
        self._session = session
        while self._set_aside:
            session.release(self._set_aside.pop(), partial(self._released, session))

    def publish(self, message: Message, packet_id: int, header: Header, on_done: OnDone) -> None:
        """Publish it so that the broker knows it if it has had it before, and takes it for no other if it has not."""
        session, number = self._session, header.sequence_number
        assert session is not None
        if self._begun is None:
            self._begun = self._source.begun_before
        if self._elsewhere is None:
            self._leave()
            self._elsewhere = self._begun
            self._remember()
        if self._elsewhere < number <= self._begun or number <= self._here:
            self._unknown.discard(packet_id)
            session.publish(replace(message, redelivered=True), packet_id, on_done)
            return
        self._held.append((message, packet_id, header, on_done))
        if not self._unknown:
            self._record(session, header)
        elif len(self._held) == 1:
            newest = self._newest()
            for unknown in sorted(self._unknown, key=lambda packet_id: self._age(packet_id, newest)):
                session.release(unknown, partial(self._released, session))

    def set_aside(self, packet_id: int) -> None:
        """Have the broker forget, on the next connection, the message under this identifier, which was given up."""
        self._unknown.add(packet_id)
        self._set_aside.append(packet_id)

    def _age(self, packet_id: int, newest: int) -> int:
        """Return where an identifier stands in the order in which they were used last, up to this number.

        The broker passes on what it holds half done as it is released: so that is in order, although identifiers begin
        anew after the last one. Nothing is known of another numbering, such as that of a run without a store.
        """
        return (packet_id - self._first_id - newest - 1) % len(self._packet_ids) if newest else packet_id

    def _newest(self) -> int:
        """Return the number of the last message that was begun at the broker where something was published last.

        As long as nothing new was begun there since it is used again, it holds what it did when it was left.
        """
        at, elsewhere, here = self._stay
        begun = self._begun or 0
        return self._left.get(at, begun) if elsewhere == begun and not here else begun

    def _leave(self) -> None:
        """Note how far the broker had come where something was published last: others have published since."""
        newest, at = self._newest(), self._stay[0]
        self._left.pop(at, None)
        if at and newest:
            self._left[at] = newest
        if self._memory is not None:
            numbers = [number for item in list(self._left.items())[-_BROKERS:] for number in item]
            _LEFT.pack_into(self._memory, _STAY.size, *numbers, *[0] * (2 * _BROKERS - len(numbers)))

    def _released(self, session: Session, packet_id: int, refusal: str) -> None:
        self._unknown.discard(packet_id)
        if self._session is session and not self._unknown:
            for _, _, header, _ in list(self._held):  # a copy: what is recorded at once is published at once
                self._record(session, header)

    def _record(self, session: Session, header: Header) -> None:
        number = header.sequence_number
        # Before it counts as begun: else the next gateway would take it for the one that had the identifier before, and
        # that one for half done.
        session.resumable.discard(self._first_id + number % len(self._packet_ids))
        if number <= (self._begun or 0):
            self._here = max(number, self._here)
            self._remember()
            self._recorded(session, number)
        else:
            self._source.begin(header, partial(self._recorded, session, number))

    def _remember(self) -> None:
        self._stay = (self._at, self._elsewhere or 0, self._here)
        if self._memory is not None:
            # Nothing is known while it is written: should it be cut in the middle, it says nothing that is not so.
            _STAY.pack_into(self._memory, 0, 0, 0, 0)
            _STAY.pack_into(self._memory, 0, *self._stay)

    def _recorded(self, session: Session, number: int) -> None:
        """All up to this message may be published: it is known from now on that they may have been."""
        self._begun = max(number, self._begun or 0)
        while self._held and self._session is session and self._held[0][2].sequence_number <= number:
            message, packet_id, _, on_done = self._held.popleft()
            session.publish(message, packet_id, on_done)
