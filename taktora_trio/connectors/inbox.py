"""Inbox: what comes from the other side goes to every channel that it is for, and is acknowledged when it is safe."""

from __future__ import annotations

import logging
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from taktora_trio.channels import ChannelDescriptor, Inbound
from taktora_trio.connectors.connection import Connection, Incoming
from taktora_trio.connectors.dead_letters.letter import DeadLetter
from taktora_trio.connectors.options import MESSAGE_OVERHEAD
from taktora_trio.errors import BackPressure, MessageError, PayloadOverflow, is_worth_logging
from taktora_trio.escaping import escaped
from taktora_trio.health import FULL_FOR, HealthBoard

if TYPE_CHECKING:
    from taktora_trio.connectors.dead_letters.letters import DeadLetters
    from taktora_trio.connectors.pump import Pump, Turn
    from taktora_trio.transport.sink import PayloadSink

__all__ = ["DEGRADED_FOR", "Inbox"]

log = logging.getLogger(__name__)

DEGRADED_FOR = 5.0  # seconds for which a discarded message shows in the health
_AT_ONCE = 64  # messages out of the backlog, before other channels have their turn
_TOPICS = 4096  # for so many topics it is remembered which channels they go to,
_SHORT = 256  # if they have at most so many characters: topics may be long, and the other side chooses them
_PROPERTY = sys.getsizeof(("", "")) + 8  # bytes that a user property costs besides its strings


class Inbox:
    """Delivers what comes from the other side to every channel that it is for. It lives as long as the gateway.

    A message goes into shared memory at once, or through a bounded backlog while the app is slow. A reliable one is
    kept until the app is done with it in every channel that it is for, and then acknowledged; where the channel says
    `acknowledge="on-arrival"`, as soon as it is in shared memory. It is never discarded for want of room: when the
    backlog is full, no more is read from the other side.
    """

    def __init__(
        self,
        connector: str,
        sinks: Iterable[tuple[ChannelDescriptor[Any], PayloadSink]],
        channels_of: Callable[[str], Iterable[str]],
        backlog: int,
        health: HealthBoard,
        pump: Pump,
        on_failure: Callable[[Exception], None] = lambda failure: None,
        dead_letters: DeadLetters | None = None,
    ) -> None:
        """`channels_of(topic)` returns the names of the channels that a message is for; `backlog` is in bytes.

        `pump` follows in each channel what the app is done with, and brings in its backlog.
        `on_failure` is called with what the connection's `acknowledge` has raised: it is to be ended. Messages that the
        app has given up go to the dead letters, or are discarded where there are none.
        """
        self.discarded = 0
        """Counts messages that were discarded, for want of room or since they can't be carried."""
        self.strays = 0
        """Counts messages that came and that no channel is for."""
        self._name = connector
        self._channels_of = channels_of
        self._limit = backlog
        self._health = health
        self._on_failure = on_failure
        self._backlog_bytes = 0
        self._connection: Connection | None = None
        self._is_starting = False
        self._has_paused = False
        self._stray = ""
        self._deliveries = {channel.name: _Delivery(channel, sink) for channel, sink in sinks}
        self._some_on_arrival = any(delivery.acknowledges_on_arrival for delivery in self._deliveries.values())
        self._matching: dict[str, list[_Delivery]] = {}
        self._in_order = defaultdict[int, deque[_Delivered]](deque)  # not acknowledged, by `Incoming.order`
        self._due: list[_Delivered] = []  # to be acknowledged now
        self._dead_letters = dead_letters
        for name, delivery in self._deliveries.items():
            delivery.turn = pump.add(name, partial(self._follow, delivery))
            delivery.sink.watch(delivery.turn)

    def attach(self, connection: Connection) -> None:
        """Send acknowledgements to this connection from now on."""
        self._connection = connection
        self._has_paused = False
        self._is_starting = True
        if not connection.resumed:
            for delivery in self._deliveries.values():
                delivery.sink.note_forgotten()

    def started(self) -> None:
        """The connection is complete: from now on it is not read while the backlog is full.

        Before that it is (up to twice the backlog), since what makes it complete could not be read either.
        """
        self._is_starting = False
        self._acknowledge_due()
        if self._backlog_bytes > self._limit:
            self._pause_reading(max(self._deliveries.values(), key=lambda delivery: len(delivery.backlog)))

    def deliver(self, message: Incoming) -> None:
        """Take a message from the connection. Call it in order; it never waits."""
        deliveries = self._matching.get(message.topic)
        if deliveries is None:
            deliveries = self._match(message.topic)
        if not deliveries:
            self._tell_stray(message)
        elif self._some_on_arrival and message.reliable and self._pass_on(deliveries, message):
            return
        delivered = None
        if message.reliable:
            delivered = _Delivered(message, len(deliveries))
            if message.order:
                self._in_order[message.order].append(delivered)
        waiting = [d for d in deliveries if d.backlog or not self._send(d, message, delivered)]
        if waiting:
            self._keep(message, delivered, waiting)
        elif delivered is not None and not delivered.left:
            self._is_done_with(delivered)
            self._acknowledge_due()

    def give(self, channel: str, message: Incoming, then: Callable[[bool], None], *, letter: int = 0) -> None:
        """Deliver a message to one channel that did not come from the connection, behind what waits there.

        `then(True)` is called when the app is done with it; `then(False)` when it is with the dead letters, for the app
        has given it up, or it can't be sent: under the number `letter`, if it was one before.
        """
        delivery = self._deliveries[channel]
        delivered = _Given(message, then, letter)
        if delivery.backlog or not self._send(delivery, message, delivered):
            self._keep(message, delivered, [delivery])

    def settle(self) -> None:
        """Acknowledge all that the app is done with by now. For the end, when nobody follows it any more."""
        for delivery in self._deliveries.values():
            self._settle(delivery)
        self._acknowledge_due()

    def waiting(self, channel: str) -> int:
        """Return the number of messages in this channel's backlog."""
        return len(self._deliveries[channel].backlog)

    def discarded_of(self, channel: str) -> int:
        """Return how many messages of this channel were discarded."""
        return self._deliveries[channel].discarded

    def log_undelivered(self) -> None:
        """Log at the end how many messages the app is not done with. Those not acknowledged come to the next run."""
        for channel, delivery in self._deliveries.items():
            self._settle(delivery)
            in_hand = sum(isinstance(entry, _Delivered) for entry in delivery.in_hand)
            kept = in_hand + sum(waits.delivered is not None for waits in delivery.backlog)
            unread = delivery.sink.unread
            lost = len(delivery.backlog) - (kept - in_hand)
            lost += max(0, unread - in_hand - delivery.given_once()) if unread else 0
            if lost:
                text = "channel %s: stopped with %d inbound messages that the app has not had and nobody keeps: lost"
                log.warning(text, channel, lost, extra={"event": "inbound-lost", "channel": channel, "count": lost})
            if kept:
                text = "channel %s: stopped with %d inbound messages that the app is not done with: %s"
                log.info(
                    text,
                    channel,
                    kept,
                    "they are not acknowledged, and come again if the other side keeps them",
                    extra={"event": "inbound-left", "channel": channel, "count": kept},
                )

    def _match(self, topic: str) -> list[_Delivery]:
        deliveries = [self._deliveries[name] for name in self._channels_of(topic)]
        if len(topic) <= _SHORT:
            if len(self._matching) >= _TOPICS:
                self._matching.clear()
            self._matching[topic] = deliveries
        return deliveries

    def _pass_on(self, deliveries: list[_Delivery], message: Incoming) -> bool:
        """Send it and acknowledge it at once, where nothing waits before it. Returns false, with nothing done, if not.

        All else that happens to a message is not needed then, and costs more than this.
        """
        connection, delivery = self._connection, deliveries[0]
        if len(deliveries) > 1 or not delivery.acknowledges_on_arrival or delivery.backlog:
            return False
        if connection is None or self._due:
            return False
        if message.order and self._in_order[message.order]:
            return False
        if not self._send(delivery, message, None):
            return False
        try:
            connection.acknowledge(message)
        except Exception as exc:  # noqa: BLE001 - as in `_acknowledge_due`
            self._due.append(_Delivered(message, 0))
            self._connection = None
            self._on_failure(exc)
        delivery.note_acknowledged(delivery.newest)
        return True

    def _send(self, delivery: _Delivery, message: Incoming, delivered: _Delivered | None) -> bool:
        """Send it to the channel, or discard it if it can never be sent. Returns false if the channel has no room."""
        topic = message.topic if delivery.is_pattern else ""
        try:
            if message.skipped:
                raise PayloadOverflow(f"{message.skipped} bytes")
            number = delivery.sink.send_nowait(
                message.payload,
                topic=topic,
                correlation_id=message.correlation_id,
                metadata=message.metadata,
                retained=message.retained,
                redelivered=message.redelivered,
                delivery_id=message.delivery_id,
                reliable=message.reliable,
            )
        except BackPressure:
            return False
        except MessageError as exc:
            if delivered is not None and delivered.then is not None:
                self._give_up(delivery, delivered, _why_unfit(exc), 0)
                return True
            self._discard_unfit(delivery, message, exc)
            if delivered is not None:
                delivered.left -= 1
            return True
        if delivered is not None:
            if delivered.delivery is None:
                delivered.delivery, delivered.number = delivery, number
            else:
                delivered.others = (*delivered.others, (delivery, number))
            if delivery.acknowledges_on_arrival:
                delivered.left -= 1
        if delivery.acknowledges_on_arrival:
            delivery.newest = number
        else:
            delivery.in_hand.append(delivered or message)
        return True

    def _keep(self, message: Incoming, delivered: _Delivered | None, waiting: list[_Delivery]) -> None:
        size = _size(message)
        for delivery in waiting:
            if self._backlog_bytes + size > self._limit:
                if delivered is None:
                    self._discard(delivery, f"the app is too slow, and the backlog of {self._limit} bytes is full")
                    continue
                self._pause_reading(delivery)
            self._backlog_bytes += size
            delivery.keep(_Waits(message, delivered, size))

    def _follow(self, delivery: _Delivery) -> int:
        """Take note of what the app is done with, and send some of the backlog. Returns the number of messages."""
        count = self._settle(delivery)
        self._acknowledge_due()
        sent = 0
        while delivery.backlog and sent < _AT_ONCE:
            message, delivered, size = delivery.backlog[0]
            if not self._send(delivery, message, delivered):
                break
            # Only now: while the backlog is not empty, newer messages queue behind it.
            delivery.backlog.popleft()
            self._backlog_bytes -= size
            if delivered is not None and not delivered.left:
                self._is_done_with(delivered)
                self._acknowledge_due()
            self._resume_if_there_is_room()
            sent += 1
        if delivery.backlog:
            if sent == _AT_ONCE:
                delivery.turn.ask()
            else:
                delivery.look_again()
        return count + sent

    def _settle(self, delivery: _Delivery) -> int:
        """Take note of what the app is done with in this channel, and return how many messages these are."""
        done = delivery.newly_done()
        has_given_up = delivery.sink.has_given_up
        for number in done:
            entry = delivery.in_hand.popleft()
            if has_given_up and (given_up := delivery.sink.given_up(number)) is not None:
                self._give_up(delivery, entry, *given_up)
            elif isinstance(entry, _Delivered):
                entry.left -= 1
                if not entry.left:
                    self._is_done_with(entry)
        return len(done)

    def _leave(self, delivered: _Delivered) -> None:
        """One channel less is to be done with it."""
        delivered.left -= 1
        if not delivered.left:
            self._is_done_with(delivered)

    def _give_up(self, delivery: _Delivery, entry: _Delivered | Incoming, reason: str, deliveries: int) -> None:
        delivered = entry if isinstance(entry, _Delivered) else None
        message = entry.message if isinstance(entry, _Delivered) else entry
        if self._dead_letters is None:
            self._discard(delivery, f"the app has given up a message on '{escaped(message.topic)}': {escaped(reason)}")
            if delivered is not None:
                self._leave(delivered)
            return
        letter = DeadLetter(
            connector=self._name,
            channel=delivery.name,
            topic=message.topic,
            payload=message.payload,
            reason=reason,
            deliveries=deliveries,
            metadata=message.metadata,
            correlation_id=message.correlation_id,
            retained=message.retained,
            redelivered=message.redelivered,
            number=delivered.letter if delivered is not None else 0,
        )
        self._dead_letters.put_nowait(letter, None if delivered is None else partial(self._is_buried, delivered))

    def _is_buried(self, delivered: _Delivered) -> None:
        if delivered.then is not None:
            delivered.then(False)
        else:
            self._leave(delivered)
            self._acknowledge_due()

    def _is_done_with(self, delivered: _Delivered) -> None:
        """It is to be acknowledged: now, or behind others that came before it, where the protocol wants that."""
        if delivered.then is not None:
            delivered.then(True)
            return
        order = delivered.message.order
        if not order:
            self._due.append(delivered)
            return
        waiting = self._in_order[order]
        if waiting[0] is not delivered:
            # Some protocols demand an order of acknowledgements. So one that the app takes long for holds up those of
            # all behind it, and they count as the backlog does.
            delivered.held = _size(delivered.message)
            self._backlog_bytes += delivered.held
            if self._backlog_bytes > self._limit:
                self._pause_reading(waiting[0].delivery or delivered.delivery)
            return
        while waiting and not waiting[0].left:
            ready = waiting.popleft()
            self._due.append(ready)
            self._backlog_bytes -= ready.held
        self._resume_if_there_is_room()

    def _acknowledge_due(self) -> None:
        connection, due = self._connection, self._due
        if connection is None or not due:
            return
        count, newest = 0, dict[_Delivery, int]()
        try:
            for delivered in due:
                if delivered.delivery is not None:
                    if delivered.number > newest.get(delivered.delivery, 0):
                        newest[delivered.delivery] = delivered.number
                    for delivery, number in delivered.others:
                        newest[delivery] = max(number, newest.get(delivery, 0))
                connection.acknowledge(delivered.message)
                count += 1
        except Exception as exc:  # noqa: BLE001 - whatever a protocol's code raises
            self._connection = None  # the next one is told the rest
            self._on_failure(exc)
        del due[:count]
        # Nothing of it has left yet, for nothing has been awaited: see `Connection.acknowledge`.
        for delivery, number in newest.items():
            delivery.note_acknowledged(number)

    def _pause_reading(self, delivery: _Delivery | None) -> None:
        if self._is_starting and self._backlog_bytes <= 2 * self._limit:
            return
        if not self._has_paused and self._connection is not None:
            self._has_paused = True
            self._connection.pause_reading()
            name = "" if delivery is None else f" {delivery.name}"
            reason = f"channel{name} is not read: no more is taken from the other side"
            log.warning("%s: %s", self._name, reason, extra={"event": "reading-paused", "connector": self._name})
            self._health.degrade(self._name, reason, DEGRADED_FOR)

    def _resume_if_there_is_room(self) -> None:
        if self._has_paused and self._backlog_bytes <= self._limit // 2:
            self._has_paused = False
            if self._connection is not None:
                self._connection.resume_reading()

    def _tell_stray(self, message: Incoming) -> None:
        """Count, log and show it. It is acknowledged as any other, else the other side might soon send nothing more."""
        self.strays += 1
        if is_worth_logging(self.strays):  # so that a flood of topics is no flood of reasons either
            self._stray = f"messages come that no channel is for, the last on '{escaped(message.topic)}'"
            log.warning(
                "%s: %s; %d so far. Did an earlier version subscribe to it, or does the other side change topics?",
                self._name,
                self._stray,
                self.strays,
                extra={"event": "message-stray", "connector": self._name, "count": self.strays},
            )
        self._health.degrade(self._name, self._stray, DEGRADED_FOR)

    def _discard_unfit(self, delivery: _Delivery, message: Incoming, exc: MessageError) -> None:
        self._discard(delivery, f"a message on '{escaped(message.topic)}' {_why_unfit(exc)}")

    def _discard(self, delivery: _Delivery, reason: str) -> None:
        self.discarded += 1
        delivery.discarded += 1
        count = delivery.discarded
        if is_worth_logging(count):
            log.error(
                "channel %s: discarded %d inbound messages so far: %s",
                delivery.name,
                count,
                reason,
                extra={"event": "inbound-discarded", "connector": self._name, "channel": delivery.name, "count": count},
            )
        self._health.degrade(self._name, f"channel {delivery.name} discards inbound messages", DEGRADED_FOR)


def _why_unfit(exc: MessageError) -> str:
    what = "is too large" if isinstance(exc, PayloadOverflow) else "can't be carried"
    return f"{what}: {escaped(str(exc))}"


def _size(message: Incoming) -> int:
    """Return how many bytes of memory a message takes in the backlog, whatever the other side puts into it."""
    topic, metadata = message.topic, message.metadata
    size = len(message.payload) + len(topic) * (1 if topic.isascii() else 4) + MESSAGE_OVERHEAD
    size += len(message.correlation_id)
    if metadata is not None:
        size += sys.getsizeof(metadata.content_type) + sys.getsizeof(metadata.response_topic)
        for name, value in metadata.user_properties:
            size += _PROPERTY + sys.getsizeof(name) + sys.getsizeof(value)
    return size


class _Delivered:
    """A reliable message that was sent to channels, or waits for room there, and is not acknowledged."""

    __slots__ = ("delivery", "held", "left", "message", "number", "others")

    then: Callable[[bool], None] | None = None
    letter = 0

    def __init__(self, message: Incoming, left: int) -> None:
        self.message = message
        self.left = left
        """The number of channels that are not done with it."""
        self.delivery: _Delivery | None = None
        self.number = 0
        """Its number in the channel that it was sent to first."""
        self.others: tuple[tuple[_Delivery, int], ...] = ()
        """Other channels that it was sent to, with its number there."""
        self.held = 0
        """Its size, if it waits for nothing but the acknowledgement of one before it."""


class _Given(_Delivered):
    """One that did not come from the connection: see `Inbox.give`."""

    __slots__ = ("letter", "then")

    def __init__(self, message: Incoming, then: Callable[[bool], None], letter: int) -> None:
        super().__init__(message, 1)
        self.then = then
        self.letter = letter


class _Waits(NamedTuple):
    """A message in the backlog of a channel."""

    message: Incoming
    delivered: _Delivered | None
    size: int


class _Delivery:
    """One channel: what the app is not done with, and the messages that wait until it makes room."""

    def __init__(self, channel: ChannelDescriptor[Any], sink: PayloadSink) -> None:
        self.name = channel.name
        self.sink = sink
        self.in_hand: deque[_Delivered | Incoming] = deque()
        """What was sent and the app is not done with, in the order of its numbers; as it came what is not reliable."""
        self.backlog: deque[_Waits] = deque()
        self.discarded = 0
        self.is_pattern = channel.routing.is_pattern
        self.acknowledges_on_arrival = isinstance(channel, Inbound) and channel.acknowledge == "on-arrival"
        self._done = sink.done
        self.newest = 0
        """The number of the last that was sent, where it is acknowledged on arrival."""
        self._noted = 0
        self.turn: Turn

    def newly_done(self) -> range:
        """Return the numbers of the messages in hand that the app is done with now, and was not at the last call."""
        before, done = self._done, min(self.sink.done, self._done + len(self.in_hand))
        if done <= before:
            return range(0)
        self._done = done
        return range(before + 1, done + 1)

    def given_once(self) -> int:
        """Return how many of those in hand nobody keeps, and the app has had."""
        numbered = enumerate(self.in_hand, self._done + 1)
        return sum(self.sink.was_given(number) for number, entry in numbered if not isinstance(entry, _Delivered))

    def note_acknowledged(self, number: int) -> None:
        """The acknowledgements of some messages, of which this is the newest, are about to leave."""
        if number > self._noted:
            self._noted = number
            self.sink.note_acknowledged(number)

    def keep(self, waits: _Waits) -> None:
        if not self.backlog:  # else it will look
            self.look_again()
        self.backlog.append(waits)

    def look_again(self) -> None:
        """Try again in a while what waits, even if the app makes no progress: to show that it is full still."""
        self.turn.ask_at(trio.current_time() + FULL_FOR / 2)
