"""Outbox: one channel's messages from shared memory to the other side, in order, none of them forgotten."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace

from taktora_trio.channels import Envelope, Header
from taktora_trio.connectors.connection import Connection, Guarantee
from taktora_trio.connectors.expiry import EXPIRED, aged
from taktora_trio.errors import TransportError, is_worth_logging
from taktora_trio.escaping import escaped
from taktora_trio.transport.source import Discarded

if TYPE_CHECKING:
    from taktora_trio.connectors.pump import Pump
    from taktora_trio.connectors.source import Source

__all__ = ["Outbox", "PublishFailed"]

log = logging.getLogger(__name__)


class PublishFailed(Exception):
    """A connection's `publish` has raised `failure`: that connection can't be used any more."""

    def __init__(self, failure: Exception) -> None:
        super().__init__(failure)
        self.failure = failure


class Outbox:
    """Publishes one channel, and keeps a ledger of what is in flight. It lives as long as the gateway.

    It takes what the app has sent at once, also where it can't be published yet, as much as a window: what is here is
    safe from the end of the app. `publishing` lends it a connection. A message that is not acknowledged there is
    published again on the next one.

    The gateway's pump calls `step`. `on_trouble` is called with the reason why a message can't reach the other side. If
    the connection's `publish` raises, `step` calls `on_failure`, and the other methods raise `PublishFailed`: the
    connection is to be ended.
    """

    def __init__(
        self,
        channel: str,
        source: Source,
        max_inflight: int,
        pump: Pump,
        *,
        window: int,
        guarantee: Guarantee = "at least once",
        on_trouble: Callable[[str], None] = lambda reason: None,
        on_failure: Callable[[PublishFailed], None] = lambda failure: None,
    ) -> None:
        """`window` is how many messages lie in shared memory at most.

        No more are taken before they can be published, and no more of those that come during a drain are published.
        """
        self.channel = channel
        self.is_acknowledged = guarantee != "at most once"
        """True if the other side answers to its messages."""
        self.refused = 0
        """Counts messages that the other side has refused."""
        self.set_aside_count = 0
        """Counts messages that were set aside, since the connection ended behind them each time."""
        self.expired = 0
        """Counts messages that were not published, since they had expired while they waited here."""
        self.discarded = 0
        """Counts envelopes that could not be read or published."""
        self._source = source
        self._max_inflight = max_inflight
        self._window = window
        self._least_life = 1 if guarantee == "exactly once" else 0  # one that is half done is completed, however late
        self._on_trouble = on_trouble
        self._on_failure = on_failure
        self._limit = max_inflight  # of this connection
        self._inflight: deque[Envelope] = deque()
        self._done: set[int] = set()  # sequence numbers that are done before one that came before them
        self._last = 0  # the sequence number of the newest in flight
        self._published = 0  # of the newest that was handed to any connection
        self._ahead: deque[Envelope] = deque()  # were taken, and can't be on their way yet
        self._unpublishable: dict[int, str] = {}  # reasons for some of these, by sequence number
        self._connection: Connection | None = None
        self._resumed_on: Connection | None = None
        self._alone: tuple[Connection, int] | None = None  # the number that was published alone, and by whom
        self._progress: trio.Event | None = None  # set when room comes, and when a connection does; None: nobody waits
        self._is_stuck = False  # the pump's turn is asked for at the same time
        self._moved = self._moved_before = 0  # counts messages that were taken, and that were published
        self._set_aside_shown = 0
        self._pump = pump
        self._answered: Header | None = None  # up to here, and the source is told at the end of the batch
        self._turn = pump.add(channel, self.step)
        source.watch(self._turn)

    # Lent a connection

    @contextlib.contextmanager
    def publishing(self, connection: Connection) -> Iterator[None]:
        """Lend it this connection for the block. It first publishes again what is not acknowledged."""
        self._resume(connection)
        self._connection = connection
        self._tell_progress()  # this connection may take more at once than the last one
        try:
            yield
        finally:
            self._give_back()

    def step(self) -> int:
        """Publish a batch, or take one that can't be published yet. Returns how many messages were moved.

        When the other side makes room, or a connection is lent, it asks for its turn: what waits in the source then is
        not announced again.
        """
        connection, moved = self._connection, 0
        if connection is not None and not self._is_full():
            try:
                moved = self._take(connection, self._max_inflight)
            except PublishFailed as failure:
                self._give_back()
                self._on_failure(failure)
                return moved
            if not self._is_full():
                if moved >= self._max_inflight:
                    self._turn.ask()
                return moved
        moved += self._take_ahead()
        source = self._source
        self._is_stuck = not source.announces or bool(self._ahead) or source.is_behind
        return moved

    @property
    def has_work(self) -> bool:
        """True if `drain` has something to do."""
        source = self._source
        return bool(self._inflight or self._ahead or source.is_behind or source.unacknowledged)

    async def drain(self, connection: Connection) -> None:
        """Publish what is queued now, and return when all of it is acknowledged."""
        if self._resumed_on is not connection:
            self._resume(connection)  # it stops before it was lent the connection
        left = self._window + len(self._ahead)  # an app that goes on sending must not keep us here
        while left > 0:
            taken = self._take(connection, left)
            left -= taken
            if not taken:
                if not self._is_full():
                    break  # nothing more is queued
                await self._wait_for_progress()
        while self._inflight:
            await self._wait_for_progress()

    # One by one, and set aside

    @property
    def unfinished(self) -> list[int]:
        """The sequence numbers of what entered the ledger and is not done with, in order."""
        numbers = (envelope.header.sequence_number for envelope in self._inflight)
        return [number for number in numbers if number not in self._done]

    async def publish_alone(self, connection: Connection, number: int) -> None:
        """Publish one of the unfinished again, by a connection that is not lent yet, and wait until it is done."""
        self._alone = (connection, number)
        self._publish(connection, self._find(number), again=True)
        self._published = max(self._published, number)
        while number in self.unfinished:
            await self._wait_for_progress()

    def set_aside(self, number: int) -> Envelope:
        """Give up this one of the unfinished, so that the channel goes on behind it, and return it."""
        envelope = self._find(number)
        envelope = replace(envelope, payload=bytes(envelope.payload))  # what is lent is not ours for longer
        self.set_aside_count += 1
        log.error(
            "channel %s: set aside a message on '%s', behind which the other side ends the connection; %d so far",
            self.channel,
            escaped(envelope.topic),
            self.set_aside_count,
            extra={"event": "message-set-aside", "channel": self.channel, "count": self.set_aside_count},
        )
        self._finish(number, "set aside: the other side ends the connection behind it", given_up=True)
        return envelope

    def show_set_aside(self) -> None:
        """Show in the health that there are some new ones. The health shows it only while there is a connection."""
        if self.set_aside_count > self._set_aside_shown:
            self._set_aside_shown = self.set_aside_count
            self._on_trouble(f"{self.set_aside_count} message{'s' * (self.set_aside_count > 1)} set aside")

    # Looking

    @property
    def waiting(self) -> int:
        """The number of messages that were taken, and can't be on their way yet."""
        return len(self._ahead)

    def stalled(self) -> str | None:
        """Return a complaint if messages wait, nothing is in the way, and none was moved since the last call."""
        before, self._moved_before = self._moved_before, self._moved
        if self._moved != before:
            return None
        if self._source.is_behind and self._room > 0:
            return f"channel {self.channel}: messages wait, and none is taken"
        if self._ahead and self._connection is not None and not self._is_full():
            return f"channel {self.channel}: messages were taken, and none is published"
        return None

    def log_unpublished(self) -> None:
        """Log at the end what is not acknowledged. It is lost if the app's end is closed; else it waits there."""
        if left := self._source.unacknowledged:
            waits = self._source.has_writer
            text = "channel %s: stopped with %d messages not acknowledged by the other side, %d of them published: %s"
            what = "they wait for the next gateway, as long as the app runs" if waits else "they are lost"
            stored = self._source.stored  # those are not among what is left
            published = sum(stored < number <= self._published for number in self.unfinished)
            log.log(
                logging.INFO if waits else logging.WARNING,
                text,
                self.channel,
                left,
                published,
                what,
                extra={"event": "outbound-left" if waits else "outbound-lost", "channel": self.channel, "count": left},
            )

    # The ledger

    def _give_back(self) -> None:
        self._connection = None
        self._tell_progress()  # from now on it only takes

    def _resume(self, connection: Connection) -> None:
        self._resumed_on = connection
        most = connection.most_in_flight(self.channel)
        self._limit = self._max_inflight if most is None else min(most, self._max_inflight)
        for envelope in list(self._inflight):  # a copy: `_finish` may be called while we publish
            number = envelope.header.sequence_number
            if number not in self._done and self._alone != (connection, number):
                self._publish(connection, envelope, again=True)
                self._published = max(self._published, number)

    def _find(self, number: int) -> Envelope:
        return next(envelope for envelope in self._inflight if envelope.header.sequence_number == number)

    def _is_full(self) -> bool:
        if self._ahead:
            return not self._may_join(self._ahead[0].header.sequence_number)
        return bool(self._inflight) and self._last + 1 >= self._inflight[0].header.sequence_number + self._limit

    def _may_join(self, number: int) -> bool:
        """Return whether it is near enough to those in flight: see `Connection.most_in_flight`.

        Numbers are left out where an envelope can't be read, or what a killed writer has left was not taken. One that
        is not above the others comes from a broken writer, and has to wait until all of them are done.
        """
        return not self._inflight or self._last < number < self._inflight[0].header.sequence_number + self._limit

    @property
    def _room(self) -> int:
        """The number of messages that may be taken before any can be published."""
        return self._window - len(self._inflight) - len(self._ahead)

    def _take_ahead(self) -> int:
        """Take up to a batch of what can't be published yet, and return how many."""
        ahead, receive = self._ahead, self._source.receive_nowait
        before = len(ahead)
        for _ in range(min(self._room, self._max_inflight)):
            try:
                ahead.append(receive())
            except trio.WouldBlock:
                break
            except TransportError as exc:
                if number := self._discard(exc):
                    ahead.append(Envelope(b"", Header(number, 0), ""))
                    self._unpublishable[number] = str(exc)
        else:
            self._source.attach()  # another writer may have come, behind what is left there
            if self._room > 0:
                self._turn.ask()
        self._moved += len(ahead) - before
        return len(ahead) - before

    def _take(self, connection: Connection, limit: int) -> int:
        """Publish up to `limit` of what waits, as many as may be in flight; no await, so none gets lost."""
        if self._least_life and self._answered is not None:
            # Exactly once: a new message may take the place of one that is done, so that is told before.
            self._acknowledge()
        taken = 0
        channel, inflight, ahead, finish = self.channel, self._inflight, self._ahead, self._finish
        receive = self._source.receive_nowait
        publish: Callable[..., None] = connection.publish
        publish_aged: Callable[..., None] = self._publish
        failure: Exception | None = None
        last, most = self._last, self._limit - 1
        # As `_is_full`, without a call for each message.
        while taken < limit and (not inflight or last - inflight[0].header.sequence_number < most):
            try:
                envelope = ahead.popleft() if ahead else receive()
            except trio.WouldBlock:
                break
            except TransportError as exc:
                taken += 1  # else a broken writer could keep us here
                number = self._discard(exc)
                if number and self._may_join(number):
                    last = self._last = number
                    self._inflight.append(Envelope(b"", Header(number, 0), ""))
                    self._finish(number, str(exc), given_up=True)
                continue
            number = envelope.header.sequence_number
            if number != last + 1 and not self._may_join(number):
                ahead.appendleft(envelope)
                break
            last = self._last = number
            taken += 1
            inflight.append(envelope)
            if self._unpublishable and (reason := self._unpublishable.pop(number, "")):
                self._finish(number, reason, given_up=True)
                continue
            try:
                if envelope.metadata is None:
                    publish(channel, envelope, finish)
                else:
                    publish_aged(connection, envelope)
            except Exception as exc:  # noqa: BLE001 - whatever a protocol's code raises
                failure = exc
                published = number - 1
                # Messages behind it only enter the ledger: the next connection publishes them, in order.
                publish = publish_aged = _publish_nothing
        self._moved += taken
        if failure is not None:
            self._published = max(self._published, published)
            raise _meaning_of(failure)
        self._published = max(self._published, last)
        return taken

    def _discard(self, exc: TransportError) -> int:
        """Log what can't be published. Returns its sequence number; 0 if that is not known, or can't be."""
        self.discarded += 1
        if is_worth_logging(self.discarded):
            log.error(
                "channel %s: %s (%d so far)",
                self.channel,
                exc,
                self.discarded,
                extra={"event": "outbound-unreadable", "channel": self.channel, "count": self.discarded},
            )
        newest = self._ahead[-1].header.sequence_number if self._ahead else self._last
        return exc.number if isinstance(exc, Discarded) and exc.number > newest else 0

    def _publish(self, connection: Connection, envelope: Envelope, *, again: bool = False) -> None:
        """Publish it with what is left of its life; if nothing is, it is done with."""
        fresh = aged(envelope, self._least_life)
        if fresh is not None:
            try:
                connection.publish(self.channel, fresh, self._finish, again=again)
            except Exception as exc:  # noqa: BLE001 - as in `_take`
                raise _meaning_of(exc) from None
            return
        self._finish(envelope.header.sequence_number, EXPIRED)

    def _finish(self, number: int, refusal: str, *, given_up: bool = False) -> None:
        """Nothing more is to be done for this message: acknowledge all up to the first that is not done.

        `refusal` is the other side's, or our own if it is `given_up`.
        """
        if refusal:
            if refusal == EXPIRED:
                self._tell_expired()
            elif not given_up:
                self._refuse(refusal)
            self._source.settled(number, refusal)
        inflight, done = self._inflight, self._done
        if inflight and inflight[0].header.sequence_number == number:
            header = inflight.popleft().header
            while done and inflight and inflight[0].header.sequence_number in done:
                header = inflight.popleft().header
                done.discard(header.sequence_number)
            if self._pump.gathers:
                if self._answered is None:
                    self._pump.at_end.append(self._acknowledge)
                self._answered = header
            else:
                self._answered = None
                self._source.acknowledge(header)
        else:
            done.add(number)
            if not refusal:
                self._source.settled(number, "")
        if self._is_stuck or self._progress is not None:
            self._tell_progress()

    def _acknowledge(self) -> None:
        header, self._answered = self._answered, None
        if header is not None:
            self._source.acknowledge(header)

    def _refuse(self, refusal: str) -> None:
        self.refused += 1
        if is_worth_logging(self.refused):
            log.error(
                "channel %s: the other side has refused %d messages so far: %s",
                self.channel,
                self.refused,
                refusal,
                extra={"event": "message-refused", "channel": self.channel, "count": self.refused},
            )
        self._on_trouble(f"the other side refuses messages: {refusal}")

    def _tell_expired(self) -> None:
        self.expired += 1
        if is_worth_logging(self.expired):
            log.warning(
                "channel %s: %d messages have expired while they waited",
                self.channel,
                self.expired,
                extra={"event": "message-expired", "channel": self.channel, "count": self.expired},
            )

    async def _wait_for_progress(self) -> None:
        if self._progress is None:  # else somebody else waits for the same
            self._progress = trio.Event()
        await self._progress.wait()

    def _tell_progress(self) -> None:
        self._is_stuck = False
        self._turn.ask()
        if self._progress is not None:
            self._progress.set()
            self._progress = None


def _publish_nothing(*args: object) -> None: ...


def _meaning_of(exc: Exception) -> Exception:
    """Return `PublishFailed` for what came out of a connection; what came out of our own `_finish` is a crash."""
    assert exc.__traceback__ is not None
    frames = traceback.walk_tb(exc.__traceback__.tb_next)
    if isinstance(exc, MemoryError | PublishFailed) or any(frame.f_globals is globals() for frame, _ in frames):
        return exc
    return PublishFailed(exc)
