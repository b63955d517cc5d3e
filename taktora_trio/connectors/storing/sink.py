"""StoredSink: the end of an inbound channel that takes messages to disk, before the app has room for them.

To the inbox it is a `PayloadSink` whose app is done with a message when it is stored: so it is acknowledged then.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from taktora_trio.channels import Metadata
from taktora_trio.connectors.connection import Incoming
from taktora_trio.errors import BackPressure, StoreError
from taktora_trio.store import LogChannel, Record, StoreFull
from taktora_trio.transport.deliveries import identity_of

if TYPE_CHECKING:
    from taktora_trio.connectors.pump import Turn

__all__ = ["StoredSink", "incoming"]

_MOST = 1024  # messages on their way to the disk at once,
_MOST_BYTES = 16 * 2**20  # and bytes
_FRESH = 512  # messages that go to the app without being read from the disk,
_FRESH_BYTES = 2**20  # and about bytes
_KNOWN = 4096  # messages of an earlier gateway that are looked at: more are not on their way from the other side
_IDS = 65535  # delivery ids go from 1 to that


class _Content(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    payload: bytes
    topic: str
    correlation_id: bytes = b""
    metadata: Metadata | None = None
    retained: bool = False
    redelivered: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Content).decode


def incoming(record: Record, topic: str, is_again: bool) -> Incoming:
    """Return the message of a record; `is_again` if an earlier gateway may have given it to the app.

    `topic` is the channel's, if it has one alone: it is left out in the record.

    To the app's reader the log is the other side: it sends a message again, under the same delivery id, until it is
    settled. So the reader knows one that it has had. Raises `StoreError` for a record that is no message.
    """
    try:
        found = _decode(record.content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise StoreError(f"record {record.number} is no message ({exc}): it is left out") from exc
    return Incoming(
        found.topic or topic,
        found.payload,
        reliable=True,
        metadata=found.metadata,
        correlation_id=found.correlation_id,
        retained=found.retained,
        redelivered=found.redelivered or is_again,
        delivery_id=record.number % _IDS + 1,
    )


class _Stored(NamedTuple):
    """A message that was sent here and is not acknowledged to the other side, as far as is known."""

    number: int
    """Its number here."""
    record: int
    """Its number in the log."""
    name: tuple[int, int]
    """What it is known by if the other side sends it again: its delivery id, and its identity."""


class StoredSink:
    """Appends what comes to the log. It needs one: until then, and while the log is full, it has no room."""

    def __init__(self, topic: str, max_messages: int | None) -> None:
        self.is_full = False
        """True if the log had no room at the last attempt."""
        self.unread = 0
        self.on_acknowledged: Callable[[], None] = lambda: None
        """Called when `may_settle` may have become true for a record."""
        self._topic = topic
        self._max_messages = max_messages
        self._log: LogChannel | None = None
        self._sent = 0
        self._acknowledged_record = 0
        self._waiting: deque[tuple[int, int, int]] = deque()  # not on disk: number, record, bytes
        self._waiting_bytes = 0
        self._unacknowledged: deque[_Stored] = deque()
        self._known: dict[tuple[int, int], int] = {}  # records that may come again, by name
        self._known_before: set[tuple[int, int]] = set()  # those of an earlier gateway
        self._fresh: dict[int, Incoming] = {}  # of the newest records, their messages
        self._fresh_bytes = 0
        self.progressed: Callable[[], None] = lambda: None
        """To be called when more is on disk, or there is room in the log."""

    async def opened(self, log: LogChannel) -> None:
        """Use this channel of a log that was opened just now. Raises `StoreError`."""
        after = log.last - _KNOWN
        while records := await log.read(after):
            self._known.update({(it.epoch, it.sequence): it.number for it in records if it.epoch})
            after = records[-1].number
        self._known_before = set(self._known)
        self._acknowledged_record = log.last
        self._log = log
        self.progressed()

    def closed(self) -> None:
        """The log is closed. What was on its way to it is not acknowledged, unless the other side sends it again."""
        self._log = None

    def send_nowait(
        self,
        payload: bytes,
        *,
        topic: str = "",
        correlation_id: bytes = b"",
        metadata: Metadata | None = None,
        retained: bool = False,
        redelivered: bool = False,
        delivery_id: int = 0,
        reliable: bool = True,
    ) -> int:
        """Append a message to the log, and return its number here. Raises `BackPressure`.

        From then on any message is reliable, for the log keeps it.
        """
        log = self._log
        if log is None or len(self._waiting) >= _MOST or self._waiting_bytes > _MOST_BYTES:
            raise BackPressure("the disk is slower")
        name = (delivery_id, identity_of(payload, topic))
        if delivery_id and not redelivered and self._known_before:  # the other side has sent again all that it had to
            for known in self._known_before:
                self._known.pop(known, None)
            self._known_before.clear()
        record = self._known.pop(name, 0) if redelivered and delivery_id else 0
        if not record:
            record = self._append(log, payload, name, topic, correlation_id, metadata, retained, redelivered)
        self._sent += 1
        if delivery_id:
            self._known[name] = record
            self._unacknowledged.append(_Stored(self._sent, record, name))
        self._waiting.append((self._sent, record, len(payload)))
        self._waiting_bytes += len(payload)
        return self._sent

    @property
    def done(self) -> int:
        """The number up to which all messages are on disk."""
        if (log := self._log) is not None:
            waiting = self._waiting
            while waiting and waiting[0][1] <= log.stored:
                self._waiting_bytes -= waiting.popleft()[2]
        return self._waiting[0][0] - 1 if self._waiting else self._sent

    @property
    def has_given_up(self) -> bool:
        """False: nothing is given up here."""
        return False

    def given_up(self, number: int) -> tuple[str, int] | None:
        """Return `None`: nothing is given up here."""
        return None

    def was_given(self, number: int) -> bool:
        """Return false: what is in hand here is on its way to the disk."""
        return False

    def note_acknowledged(self, number: int) -> None:
        """The acknowledgements of messages, of which this is the newest, are about to leave: they don't come again."""
        while self._unacknowledged and self._unacknowledged[0].number <= number:
            stored = self._unacknowledged.popleft()
            self._acknowledged_record = max(self._acknowledged_record, stored.record)
            if self._known.get(stored.name) == stored.record:
                del self._known[stored.name]
        self.on_acknowledged()

    def note_forgotten(self) -> None:
        """The other side has forgotten what it had sent: none of it comes again, and its delivery ids are free."""
        self._known.clear()
        self._known_before.clear()
        self._unacknowledged.clear()
        self.on_acknowledged()

    def take_fresh(self, record: int) -> Incoming | None:
        """Return the message of a record, if it need not be read from the disk; once."""
        if (message := self._fresh.pop(record, None)) is not None:
            self._fresh_bytes -= len(message.payload)
        return message

    def may_settle(self, record: int) -> bool:
        """True if the log need not keep this record any longer, once the app is done with it.

        As long as the other side may send the message again, it is kept, to be known by.
        """
        return record <= self._acknowledged_record or not self._unacknowledged

    def watch(self, turn: Turn) -> None:
        """Ask for this turn from now on whenever more may be on disk, or there may be room."""
        self.progressed = turn.ask

    def _append(
        self,
        log: LogChannel,
        payload: bytes,
        name: tuple[int, int],
        topic: str,
        correlation_id: bytes,
        metadata: Metadata | None,
        retained: bool,
        redelivered: bool,
    ) -> int:
        self.is_full = self._max_messages is not None and log.count >= self._max_messages
        if self.is_full:
            raise BackPressure("the store of the channel is full")
        content = _encode(_Content(payload, topic, correlation_id, metadata, retained, redelivered))
        try:
            record = log.append(content, epoch=name[0], sequence=name[1], timestamp=time.time_ns())
        except StoreFull as exc:
            self.is_full = True
            raise BackPressure(str(exc)) from None
        if len(self._fresh) < _FRESH and self._fresh_bytes < _FRESH_BYTES:
            self._fresh_bytes += len(payload)
            self._fresh[record] = Incoming(
                topic or self._topic,
                payload,
                reliable=True,
                metadata=metadata,
                correlation_id=correlation_id,
                retained=retained,
                redelivered=redelivered,
                delivery_id=record % _IDS + 1,
            )
        return record
