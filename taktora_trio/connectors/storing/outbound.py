"""StoredSource: one outbound channel with a log on disk between the app's shared memory and the connection.

A task takes from shared memory at once, also without a connection. What is on disk, or acknowledged by the other side,
makes room in the channel: the app's half never waits for the disk as long as its window lasts.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from taktora_trio.boottime import boottime_ns
from taktora_trio.channels import Envelope, Header, Store
from taktora_trio.connectors.connection import Guarantee
from taktora_trio.connectors.storing.backlog import Backlog
from taktora_trio.connectors.storing.begun import Begun
from taktora_trio.connectors.storing.catching_up import CatchUp
from taktora_trio.connectors.storing.message import decode, encode, marked
from taktora_trio.connectors.storing.unappended import Unappended
from taktora_trio.errors import StoreError, TransportError, is_worth_logging
from taktora_trio.store import Log, LogChannel, StoreFull

if TYPE_CHECKING:
    from taktora_trio.connectors.pump import Turn
    from taktora_trio.transport.source import PayloadSource

__all__ = ["StoredSource"]

log = logging.getLogger(__name__)

_BATCH = 32  # messages taken in one go, before other tasks have a turn
_READ_AGAIN = 1.0  # seconds after a disk could not be read
_TRY_AGAIN = 0.1  # seconds after the store was full
_EPOCH = 40  # bits for a message's number in shared memory; above them stands which numbering it is
_MOST_LOADED = 256  # messages
_OVERHEAD = 100  # bytes of a record, at most, beside its payload
_SETTLE_AT = 32  # messages that are acknowledged one after the other, until the log is told


class StoredSource:
    """A `Source` for an outbox. A `StoreKeeper` makes it, serves it, and gives it the log.

    A message's number on disk, and towards the connection, is its number in shared memory, and above that the number of
    the numbering: 1 for the first app that ever used the store, and so on. So a gateway that goes on gives each message
    the number that it had, and no number ever comes again. While the log can't be opened, messages have the number that
    they have in shared memory alone.
    """

    announces = False  # how many it has handed out decides, too

    def __init__(
        self,
        name: str,
        source: PayloadSource,
        policy: Store,
        *,
        topic: str,
        window: int,
        max_inflight: int,
        guarantee: Guarantee,
        catch_up: CatchUp,
        on_trouble: Callable[[str], None],
    ) -> None:
        """`topic` is the routing's address. `on_trouble` shows in the health what is dropped."""
        self.name = name
        self.dropped = 0
        """Counts messages that were dropped: since the store was full, or they were too old."""
        self._source = source
        self._policy = policy
        self._topic = topic
        self._max_inflight = max_inflight
        self._exactly_once = guarantee == "exactly once"
        self._newest_first = policy.catch_up == "newest-first"
        self._catch_up = catch_up
        self._on_trouble = on_trouble
        self._drops_newest = policy.when_full == "drop-newest"
        self._log: Log | None = None
        self._channel: LogChannel | None = None
        # While the log is closed: up to these it had let go of all, and stored all.
        self._let_go = self._stored = math.inf
        self._base = 0  # of this numbering; added to a number in shared memory it is ours
        self._epoch = source.epoch
        self._last_taken = 0  # in shared memory
        self._skip_to = 0  # in shared memory: what comes up to this one is in the log
        self._first_taken = math.inf  # in shared memory
        self._told = source.acknowledged  # in shared memory: up to this one the app knows that all are
        self._backlog = Backlog(min(window, _MOST_LOADED), newest_first=self._newest_first)
        self._unappended = Unappended()
        self._begun = Begun()  # for exactly once
        self._done_from = self._done_to = 0  # acknowledged in order, and not yet settled in the log
        self._is_in_order = policy.catch_up == "oldest-first"
        self._may_begin = guarantee != "exactly once"  # else first it has to be known what was begun
        self._handed: deque[tuple[int, int]] = deque()  # the number towards the connection, and ours
        self._settled: set[int] = set()  # of these, ours of what was done with before one that came before it
        self._done_while_reading: set[int] = set()
        self._count = 0  # messages handed out, by which they are numbered where the newest goes first
        self._connected = False
        self._stopping = False
        self._turn: Turn | None = None  # asked for when there may be something to hand out
        self._to_store, self._to_load = trio.Event(), trio.Event()

    def __repr__(self) -> str:
        return f"StoredSource({self.name!r}, {self._backlog!r}, not appended={len(self._unappended)})"

    # For the outbox

    def receive_nowait(self) -> Envelope:
        """Return the next message. Raises `trio.WouldBlock` if there is none, or if it is not its turn."""
        if self._is_in_order and self._may_begin and self._connected and len(self._handed) < self._max_inflight:
            live = self._backlog.take_live()
            if live is not None:
                number = live.header.sequence_number
                self._handed.append((number, number))
                return live
        if (delay := self._delay()) > 0:
            if delay < math.inf and self._turn is not None:
                self._turn.ask_at(trio.current_time() + delay)
            raise trio.WouldBlock
        kind = self._backlog.next(allows_backlog=self._backlog_delay() <= 0)
        assert kind is not None  # as `_delay` has said
        envelope = self._backlog.take(kind)
        number = ours = envelope.header.sequence_number
        if kind == "backlog":
            self._catch_up.take(self.name, trio.current_time())
            if not self._backlog.is_behind:
                self._catch_up.ends(self.name)
            if self._policy.mark_backlog:
                envelope = marked(envelope)
            if self._backlog.reads_after is not None:
                self._to_load.set()
        if self._newest_first:
            self._count = number = self._count + 1
            envelope = _numbered(envelope, number)
        self._handed.append((number, ours))
        return envelope

    def watch(self, turn: Turn) -> None:
        """Ask for this turn from now on when there may be more to hand out, or when it is time for it."""
        self._turn = turn

    def attach(self) -> None:
        self._source.attach()

    @property
    def is_behind(self) -> bool:
        return self._delay() <= 0

    @property
    def unacknowledged(self) -> int:
        return self._source.unacknowledged

    @property
    def stored(self) -> int:
        """The number up to which all messages are on disk."""
        return 0 if self._channel is None else self._channel.stored

    @property
    def has_writer(self) -> bool:
        return self._source.has_writer

    @property
    def begun_before(self) -> int:
        """The number of the last message that an earlier gateway has begun to publish, on disk or in shared memory.

        Nothing is handed out before it is known, where it matters.
        """
        here = self._source.begun_before
        return max(self._begun.on_disk, self._base + here if here else 0)

    def begin(self, header: Header, begun: Callable[[], None]) -> None:
        """Record that this message is about to be published. Call it in order; call `begun` when it is recorded.

        What is on disk outlives shared memory, so then this has to be on disk, too; and so has what comes behind it,
        for that must not go first.
        """
        number = header.sequence_number
        if self._begun.is_waiting or (self._channel is not None and number < self._unappended.first):
            self._begun.record(number, begun)
        else:
            self._begun.last = max(self._begun.last, number)
            self._source.begin(Header(number - self._base, 0), begun)

    def acknowledge(self, header: Header) -> None:
        handed, settled = self._handed, self._settled
        was_full = len(handed) >= self._max_inflight
        if self._is_in_order and not settled and handed and handed[0][0] == header.sequence_number:
            self._acknowledge_next()
            if was_full:
                self._more()
            return
        while handed and handed[0][0] <= header.sequence_number:
            ours = handed.popleft()[1]
            if ours in settled:
                settled.discard(ours)
            else:
                self._forget(ours)
                if self._newest_first and (shm := self._in_shared_memory(ours)) > self._told:
                    self._source.settled(shm, "")  # long before those in the backlog that were sent earlier
        self._tell()
        if was_full:
            self._more()

    def _acknowledge_next(self) -> None:
        """Be done with the one that was handed out first: the short way where all before it are done."""
        number = self._handed.popleft()[1]
        if number >= self._unappended.first:
            self._unappended.finish(number)
        else:
            if not self._done_from:
                self._done_from = number
            self._done_to = number
            if number - self._done_from >= _SETTLE_AT or not self._handed:
                self._settle_done()
        if (shm := self._in_shared_memory(number)) > self._told:
            self._told = shm
            self._source.acknowledge(Header(shm, 0))
        if not self._handed:
            self._tell()

    def _settle_done(self) -> None:
        if self._done_from:
            if self._channel is not None:
                self._channel.settle(self._done_from, self._done_to)
            self._done_from = 0
            if self._exactly_once:
                self._to_store.set()  # so that it reaches the disk soon: else a crash has them come twice

    def settled(self, number: int, refusal: str) -> None:
        ours = next((ours for given, ours in self._handed if given == number), None)
        if ours is None or ours in self._settled:
            return
        self._settled.add(ours)
        self._forget(ours)
        if shm := self._in_shared_memory(ours):
            self._source.settled(shm, refusal)
        self._tell()

    # For the keeper

    def connected(self, is_connected: bool) -> None:
        """Hand out messages, or take them and store them all."""
        self._connected = is_connected
        if is_connected:
            self._backlog.connected(self.stored)
            self._load_more()
            if self._backlog.is_behind:
                self._catch_up.begins(self.name, trio.current_time())
            self._more()
        else:
            self._catch_up.ends(self.name)
            self._settle_done()
            self._store_what_is_due()

    def opened(self, log_: Log) -> None:
        """Use this log from now on, with all that is in it."""
        channel = log_.channel(self.name)
        values = channel.values
        stored_before, is_new = 0, False
        if self._epoch and values.get("epoch") == self._epoch:
            index = values.get("numbering", 1)
            if channel.origin[0] == self._epoch:
                stored_before = channel.origin[1]
        else:
            index = max(values.get("numbering", 0), channel.last >> _EPOCH) + 1
            channel.put("epoch", self._epoch)
            channel.put("numbering", index)
            is_new = True
        self._base = base = index << _EPOCH
        self._renumber(stored_before)
        self._log, self._channel = log_, channel
        self._let_go = self._stored = math.inf
        channel.on_stored = self._on_stored
        self._begun.opened(log_, channel)
        if is_new and self._exactly_once:
            self._begun.record(0, self._let_begin)  # else a power cut has the next run use its numbers again
        else:
            self._may_begin = True
        if stored_before and (acknowledged := min(self._source.acknowledged, stored_before)):
            channel.settle(base + 1, base + acknowledged)  # this had not reached the disk when a gateway was killed
        if channel.count:
            self._is_in_order = self._is_in_order and not self._last_taken  # else younger ones have gone before
            # Not those that were taken once more, since nobody could know that they are here.
            self._backlog.resume(int(min(channel.last, base + self._first_taken - 1)))
        if stored_before > self._source.released:
            self._source.release(stored_before)
        self._skip_to = stored_before
        self._last_taken = max(self._last_taken, stored_before)
        if self._connected and self._backlog.is_behind:
            self._catch_up.begins(self.name, trio.current_time())
        log.debug(
            "channel %s: numbering %d, %d messages stored",
            self.name,
            index,
            channel.count,
            extra={"event": "store-numbering", "channel": self.name},
        )
        self._store_what_is_due()
        self._load_more()
        self._more()

    def closed(self) -> None:
        """The log is closed, for now."""
        self._settle_done()
        channel = self._channel
        if channel is not None:
            channel.on_stored = None
            self._let_go = channel.first - 1 if channel.count else math.inf
            self._stored = channel.stored if channel.stored < channel.last else math.inf
        self._log = self._channel = None
        self._begun.closed()
        self._may_begin = not self._exactly_once

    def stop(self) -> None:
        """Store everything from now on: this gateway is about to end."""
        self._stopping = True
        self._settle_done()
        self._store_what_is_due()

    async def serve(self) -> None:
        """Serve: take, store and load, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_all)
            nursery.start_soon(self._store_in_time)
            nursery.start_soon(self._load)
            nursery.start_soon(self._begun.serve)

    # Taking

    async def _take_all(self) -> None:
        while True:
            if self._take_some() < _BATCH:
                await self._source.wait()
                self._source.attach()
            else:
                await trio.lowlevel.checkpoint()

    def _take_some(self) -> int:
        taken = 0
        while taken < _BATCH:
            try:
                envelope = self._source.receive_nowait()
            except trio.WouldBlock:
                break
            except TransportError as exc:
                log.error(
                    "channel %s: %s", self.name, exc, extra={"event": "outbound-unreadable", "channel": self.name}
                )
                if number := getattr(exc, "number", 0):
                    self._source.settled(number, str(exc))
                    self._last_taken = max(self._last_taken, number)
                    self._tell()
                continue
            taken += 1
            self._take(envelope)
        if taken:
            self._more()
            if not self._to_store.is_set():
                self._to_store.set()
        return taken

    def _take(self, envelope: Envelope) -> None:
        header = envelope.header
        if header.sequence_number <= self._skip_to:
            return
        self._first_taken = min(self._first_taken, header.sequence_number)
        envelope = _numbered(envelope, self._base + header.sequence_number)
        if self._drops_newest and self._is_stuck and self._is_full(len(envelope.payload)):
            self._drop(envelope.header.sequence_number, "the store is full")
            self._last_taken = header.sequence_number
            self._tell()
            return
        self._unappended.put(envelope)
        self._backlog.put(envelope)
        # Last: up to this one, what is not kept here counts as done with, also where an error has ended the gateway.
        self._last_taken = header.sequence_number

    @property
    def _stores_at_once(self) -> bool:
        return self._policy.policy == "always" or not self._connected or self._stopping

    @property
    def _is_stuck(self) -> bool:
        """True if what is sent now can't be published at once."""
        return not self._connected or self._backlog.is_behind or len(self._handed) >= self._max_inflight

    def _is_full(self, size: int) -> bool:
        """Return whether the store has no room for the messages that wait to be stored, and one more."""
        if self._log is None or self._channel is None:
            return False
        most, waiting = self._policy.max_messages, len(self._unappended)
        if most is not None and self._channel.count + waiting >= most:
            return True
        return not self._log.has_room((size + _OVERHEAD) * (waiting + 1))

    # Storing

    def _append(self, envelope: Envelope) -> bool:
        """Append a message to the log. Returns false if there is no room."""
        channel, header = self._channel, envelope.header
        assert channel is not None
        if self._policy.max_messages is not None and channel.count >= self._policy.max_messages:
            return False
        if self._exactly_once and self._begun.last >= header.sequence_number:
            self._begun.put()  # with the same commit
        number = header.sequence_number
        try:
            channel.append(
                encode(envelope, self._topic),
                epoch=self._epoch,
                sequence=number - self._base,
                timestamp=header.timestamp_ns,
                number=number,
            )
        except StoreFull:
            return False
        return True

    async def _store_in_time(self) -> None:
        """Serve: append what was not appended as it was taken, when its time has come, or when there is room."""
        while True:
            await self._to_store.wait()
            self._to_store = trio.Event()
            if self._log is None:
                await trio.sleep(_TRY_AGAIN)
            elif not self._stores_at_once:
                await trio.sleep(min(self._policy.behind_after / 4, 1.0))
            if not self._store_what_is_due():
                if self._policy.when_full == "drop-oldest":
                    await self._make_room()
                await trio.sleep(_TRY_AGAIN)
            elif self._log is not None and (self._stores_at_once or self._exactly_once):
                await self._log.commit()  # what is acknowledged meanwhile need not be stored
            if self._unappended:
                self._to_store.set()

    def _store_what_is_due(self) -> bool:
        """Append what is to be stored by now. Returns false if there was no room for all of it."""
        if self._channel is None:
            return True
        unappended = self._unappended
        due = math.inf
        if not self._stores_at_once:
            due = boottime_ns() - int(self._policy.behind_after * 1e9)
        while (envelope := unappended.peek()) is not None and envelope.header.boottime_ns <= due:
            if not self._append(envelope):
                self._tell()
                return False
            unappended.pop()
        self._tell()
        return True

    async def _make_room(self) -> None:
        """Drop as much of the oldest as waits to be stored, and store that."""
        needed = sum(len(envelope.payload) + _OVERHEAD for envelope in self._unappended)
        count = len(self._unappended)
        while needed > 0 or count > 0:
            oldest = self._backlog.oldest(self.stored)
            if oldest is None:
                break
            if self._exactly_once and oldest.header.sequence_number <= max(self._begun.last, self.begun_before):
                break  # the other side may hold half of it
            self._backlog.drop_oldest()
            self._drop(oldest.header.sequence_number, "the store was full, and newer messages came")
            needed -= len(oldest.payload) + _OVERHEAD
            count -= 1
        self._load_more()
        self._store_what_is_due()
        self._tell()
        if self._log is not None:
            await self._log.commit()

    def drop_what_is_too_old(self) -> None:
        """Drop what has waited for longer than the policy's `max_age`, as far as it is in memory; the rest follows."""
        if self._policy.max_age is None:
            return
        before = boottime_ns() - int(self._policy.max_age * 1e9)
        while (oldest := self._backlog.oldest(self.stored)) and oldest.header.boottime_ns < before:
            if self._exactly_once and oldest.header.sequence_number <= max(self._begun.last, self.begun_before):
                break
            self._backlog.drop_oldest()
            self._drop(oldest.header.sequence_number, "it was stored for longer than the policy's max_age")
        self._load_more()
        self._tell()

    def _drop(self, number: int, reason: str) -> None:
        self.dropped += 1
        if is_worth_logging(self.dropped):
            log.error(
                "channel %s: dropped %d messages so far: %s",
                self.name,
                self.dropped,
                reason,
                extra={"event": "store-dropped", "channel": self.name, "count": self.dropped},
            )
        self._on_trouble(f"messages are dropped: {reason}")
        if shm := self._in_shared_memory(number):
            self._source.settled(shm, f"dropped: {reason}")
        self._forget(number)

    def _on_stored(self) -> None:
        self._backlog.spill(self.stored)
        self._tell()
        if self._backlog.is_on_disk:
            self._load_more()

    # Loading

    def _load_more(self) -> None:
        if self._backlog.reads_after is not None:
            self._to_load.set()

    async def _load(self) -> None:
        """Serve: read from disk what is to be published next, a little ahead."""
        while True:
            channel, after = self._channel, self._backlog.reads_after
            if channel is None or after is None:
                self._to_load = trio.Event()
                await self._to_load.wait()
                continue
            self._done_while_reading.clear()
            try:
                records = await channel.read(after, _MOST_LOADED // 2)
            except StoreError as exc:
                self._on_trouble(f"the store can't be read: {exc}")
                await trio.sleep(_READ_AGAIN)
                continue
            if channel is not self._channel:
                continue
            found = []
            handed = {ours for _, ours in self._handed} | self._done_while_reading if self._newest_first else ()
            for record in records:
                if record.number in handed:
                    continue
                try:
                    found.append(decode(record.content, record.number, record.timestamp, self._topic))
                except StoreError as exc:
                    self._drop(record.number, str(exc))
            self._backlog.load(found, records[-1].number if records else None)
            if self._connected and self._backlog.is_behind:
                self._catch_up.begins(self.name, trio.current_time())
            elif not self._backlog.is_behind:
                self._catch_up.ends(self.name)
            self._more()
            await trio.lowlevel.checkpoint()

    def _more(self) -> None:
        """There may be something to hand out."""
        if self._turn is not None:
            self._turn.ask()

    def _let_begin(self) -> None:
        if self._channel is not None:
            self._may_begin = True
            self._more()

    # The ledger

    def _delay(self) -> float:
        """Return the seconds until a message may be handed out; endless if nobody knows."""
        if not self._connected or len(self._handed) >= self._max_inflight:
            return math.inf
        if not self._may_begin:
            return math.inf
        backlog = self._backlog
        if not backlog.is_behind:
            return 0.0 if backlog.next() else math.inf
        delay = self._backlog_delay()
        if backlog.next(allows_backlog=delay <= 0):
            return 0.0
        return delay if delay > 0 else math.inf

    def _backlog_delay(self) -> float:
        return self._catch_up.delay(self.name, trio.current_time()) if self._backlog.is_behind else 0.0

    def _forget(self, number: int) -> None:
        """Nothing more is to be done for this message: it need not be stored, or not any more."""
        if number >= self._unappended.first:
            self._unappended.finish(number)
        elif self._channel is not None:
            self._channel.settle(number)
            if self._newest_first:
                self._done_while_reading.add(number)

    def _tell(self) -> None:
        """Tell the app's end up to which number all is stored, and up to which it is acknowledged."""
        self._settle_done()
        base, last, channel = self._base, self._last_taken, self._channel
        acknowledged = stored = base + last
        if self._unappended:
            acknowledged = stored = int(self._unappended.first) - 1
        if channel is None:  # what went into the log is in there still
            acknowledged = int(min(acknowledged, self._let_go))
            stored = int(min(stored, self._stored))
        else:
            if channel.count:
                acknowledged = min(acknowledged, channel.first - 1)
            if channel.stored < channel.last:
                stored = min(stored, channel.stored)
        if acknowledged - base > self._told:
            self._told = acknowledged - base
            self._source.acknowledge(Header(self._told, 0))
        if stored - base > self._source.released:
            self._source.release(stored - base)

    def _in_shared_memory(self, number: int) -> int:
        """Return the number in shared memory of one of ours; 0 for one of an earlier app, which waits for nothing."""
        if not number >> _EPOCH:
            return number
        return number - self._base if number > self._base else 0

    def _ours(self, number: int) -> int:
        """Return our number of one that may have been handed out before the log was there."""
        return number if number >> _EPOCH else self._base + number

    def _renumber(self, stored_before: int) -> None:
        """Give what was taken before the log was there its numbers; leave out what is in the log already."""
        renumbered = [_numbered(one, self._base + one.header.sequence_number) for one in self._backlog.ready]
        self._backlog.renumber(renumbered)
        self._handed = deque((given, self._ours(ours)) for given, ours in self._handed)
        self._settled = {self._ours(ours) for ours in self._settled}
        self._unappended.renumber(
            lambda one: (
                _numbered(one, self._base + one.header.sequence_number)
                if one.header.sequence_number > stored_before
                else None
            )
        )


def _numbered(envelope: Envelope, number: int) -> Envelope:
    header = envelope.header
    if header.sequence_number == number:
        return envelope
    return Envelope(
        envelope.payload,
        Header(number, header.timestamp_ns, header.boottime_ns, header.correlation_id),
        envelope.topic,
        envelope.metadata,
    )
