"""Outbound: one channel's messages from shared memory to the broker, in order, none of them forgotten."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec
import trio

from taktora_trio.channels import ChannelDescriptor, Envelope, Header
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.connectors.mqtt.sessions.session import Message, Session
from taktora_trio.errors import TransportError, is_telling
from taktora_trio.escaping import escaped
from taktora_trio.executor import Context

if TYPE_CHECKING:
    from taktora_trio.transport.source import PayloadSource

__all__ = ["OutboundPump"]

log = logging.getLogger(__name__)


class OutboundPump(trio.abc.ReceiveChannel[Session]):
    """Publishes one channel, in order. Lives as long as the gateway, as an item of its executor; a session is lent it.

    The item's trigger is the pump itself, as a channel of the sessions to publish the next batch by.

    It has `max_inflight` packet identifiers of its own, from `first_id` on, and a message's follows from its sequence
    number: the next gateway publishes what this one had not finished under the same identifiers, by which the broker
    of a persistent session knows them (MQTT-4.4.0-1). `on_trouble` is called with what keeps a message from the broker.

    What a broker takes at QoS 2 is shared out among the `of_qos_2` channels that have it, and never lent: so no more
    can be half done at the broker after any crash either, whoever goes on from there.
    """

    def __init__(
        self,
        channel: ChannelDescriptor[Any],
        source: PayloadSource,
        max_inflight: int,
        first_id: int = 1,
        of_qos_2: int = 1,
        on_trouble: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.channel = channel
        self._routing = cast(MqttRouting, channel.routing)
        self._source = source
        self._max_inflight = max_inflight
        self._first_id = first_id
        self._of_qos_2 = of_qos_2
        self._limit = max_inflight  # of this connection
        self._on_trouble = on_trouble
        self._inflight: deque[tuple[int, Message, Header]] = deque()
        self._done: set[int] = set()  # packet identifiers that are done before one that came before them
        self._last = 0  # the sequence number of the newest in flight
        self._ahead: Envelope | None = None  # was taken, and can't be on its way together with those in flight
        self._waits = False
        self._progress = trio.Event()
        self._session: Session | None = None
        self._lent = trio.Event()
        self._more = False  # whether another batch may be there without any waiting
        self._unknown: set[int] = set()  # packet identifiers under which the broker may hold another message of QoS 2
        self._to_release: list[int] = []  # of messages of QoS 2 that were set aside
        self._held: deque[tuple[int, Message, Header]] = deque()  # of those in flight, until nothing is unknown
        self._held_for: Session | None = None
        self._begun = source.begun_before
        self._alone: tuple[Session, int] | None = None  # the packet identifier that was published alone, and by whom
        self._connected_before = False
        self._begun_by: Session | None = None
        self._taken = self._taken_before = 0
        self._told_aside = 0
        self.refused = 0
        """How many messages the broker has refused."""
        self.put_aside = 0
        """How many messages were given up, since the broker ended the connection behind them each time."""
        self.expired = 0
        """How many messages were not published, since they had expired while they waited here."""

    @contextlib.contextmanager
    def publishing(self, session: Session) -> Iterator[None]:
        """Lend it this session for the block; first it publishes what an earlier one did not acknowledge."""
        self._begin(session)
        self._session = session
        self._more = True
        self._lent.set()
        try:
            yield
        finally:
            self._session = None
            self._lent = trio.Event()

    @property
    def is_acknowledged(self) -> bool:
        """Whether the broker answers to its messages."""
        return self._routing.qos > 0

    @property
    def unfinished(self) -> list[int]:
        """The sequence numbers of what was taken and is not done with, in order."""
        return [header.sequence_number for packet_id, _, header in self._inflight if packet_id not in self._done]

    async def publish_alone(self, session: Session, number: int) -> None:
        """Publish again, by a session that it is not lent yet, the one with that sequence number; wait for its end."""
        packet_id, message, header = self._find(number)
        self._alone = (session, packet_id)
        self._publish_again(session, packet_id, message, header)
        while number in self.unfinished:
            await self._wait_for_progress()

    def set_aside(self, number: int) -> None:
        """Give up the unfinished one with that sequence number, so that the channel goes on behind it."""
        packet_id, message, _ = self._find(number)
        self.put_aside += 1
        log.error(
            "channel %s: set aside a message on '%s', behind which the broker ends the connection; %d so far",
            self.channel.name,
            escaped(message.topic),
            self.put_aside,
        )
        if message.qos == 2:
            self._unknown.add(packet_id)
            self._to_release.append(packet_id)
        self._finished(packet_id, "")

    def tell_put_aside(self) -> None:
        """Say so to whoever looks at the health, which shows it only while there is a connection."""
        if self.put_aside > self._told_aside:
            self._told_aside = self.put_aside
            self._on_trouble(f"{self.put_aside} message{'s' * (self.put_aside > 1)} set aside")

    async def receive(self) -> Session:
        """Wait until there may be something to publish, and the session to publish it by."""
        while True:
            session = self._session
            if session is None:
                await self._lent.wait()
            elif self._is_full():
                await self._wait_for_progress()
            elif self._more:
                return session
            else:
                await self._source.wait()
                self._more = True

    async def publish_batch(self, ctx: Context[Session]) -> None:
        """The item, a cycle a batch: between two of them other channels and the socket have a turn."""
        if self._session is ctx.message:  # else it was lost before this had its turn
            # Looked at here, where nothing comes between: if room comes later, what waits is not announced again.
            self._more = self._take(ctx.message, self._max_inflight) > 0 or self._is_full()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def stalled(self) -> str | None:
        """Said if there is something to publish, nothing in the way, and no progress since this was asked last."""
        before, self._taken_before = self._taken_before, self._taken
        able = self._session is not None and self._source.is_behind and not self._is_full()
        return (
            f"channel {self.channel.name}: messages wait, and none is taken" if able and self._taken == before else None
        )

    async def drain(self, session: Session) -> None:
        """Publish what is queued now, and return when all of it is acknowledged."""
        if self._begun_by is not session:
            self._begin(session)  # it stops before it was lent the session
        left = self.channel.window  # an app that goes on sending must not keep us here
        while left > 0:
            taken = self._take(session, left)
            left -= taken
            if not taken:
                if not self._is_full():
                    break  # nothing more is queued
                await self._wait_for_progress()
        while self._inflight:
            await self._wait_for_progress()

    def log_unpublished(self) -> None:
        """Say at the end what is not acknowledged. It is lost if the app's end is closed; else it waits there."""
        if left := self._source.unacknowledged:
            waits = self._source.has_writer
            told = "channel %s: stopped with %d messages not acknowledged by the broker, %d of them published: %s"
            what = "they wait for the next gateway, as long as the app runs" if waits else "they are lost"
            level = logging.INFO if waits else logging.WARNING
            log.log(level, told, self.channel.name, left, len(self.unfinished), what)

    def _begin(self, session: Session) -> None:
        if self._routing.qos == 2:
            if not session.session_present:
                self._unknown.clear()
            elif not self._connected_before:
                self._unknown = set(range(self._first_id, self._first_id + self._max_inflight))
            self._limit = min(self._max_inflight, max(1, session.limits.of_qos_2 // self._of_qos_2))
        self._connected_before = True
        self._begun_by = session
        while self._to_release:
            packet_id = self._to_release.pop()
            session.release(packet_id, partial(self._released, session))
        for packet_id, message, header in list(self._inflight):  # a copy: `done` may be called while we publish
            if packet_id not in self._done and self._alone != (session, packet_id):
                self._publish_again(session, packet_id, message, header)

    def _find(self, number: int) -> tuple[int, Message, Header]:
        return next(taken for taken in self._inflight if taken[2].sequence_number == number)

    def _publish_again(self, session: Session, packet_id: int, message: Message, header: Header) -> None:
        if message.qos == 2:
            self._publish_exactly_once(session, message, packet_id, header)
        else:
            self._publish(session, msgspec.structs.replace(message, dup=message.qos > 0), packet_id, header)

    def _is_full(self) -> bool:
        if self._ahead is not None:
            return not self._may_join(self._ahead.header.sequence_number)
        return bool(self._inflight) and self._last + 1 >= self._inflight[0][2].sequence_number + self._limit

    def _may_join(self, number: int) -> bool:
        """Whether it is as near to those in flight as may be, so that none of them has its packet identifier.

        Numbers are left out where an envelope can't be read, or a writer was killed as it was about to send. One that
        is not above the others comes from a broken writer, and has to wait until all of them are done.
        """
        return not self._inflight or self._last < number < self._inflight[0][2].sequence_number + self._limit

    def _take(self, session: Session, limit: int) -> int:
        """Publish up to `limit` queued messages, as many as may be in flight; no await, so none gets lost."""
        taken = 0
        receive, routing, inflight = self._source.receive_nowait, self._routing, self._inflight
        qos, retain = routing.qos, routing.retain
        fixed = "" if routing.is_pattern else routing.topic
        last, most = self._last, self._limit - 1
        # As `_is_full`, without a call for each message.
        while taken < limit and (not inflight or last - inflight[0][2].sequence_number < most or self._ahead):
            try:
                received = self._ahead or receive()
            except trio.WouldBlock:
                break
            except TransportError as exc:
                log.error("channel %s: %s", self.channel.name, exc)
                continue
            header = received.header
            number = header.sequence_number
            if number != last + 1 and not self._may_join(number):
                self._ahead = received
                break
            self._ahead = None
            last = self._last = number
            taken += 1
            message = Message(
                fixed or received.topic,
                received.payload,
                qos,
                retained=retain,
                metadata=received.metadata,
                correlation_id=header.correlation_id,
            )
            packet_id = self._first_id + number % self._max_inflight
            inflight.append((packet_id, message, header))
            if qos == 2:
                self._publish_exactly_once(session, message, packet_id, header)
            else:
                self._publish(session, message, packet_id, header)
        self._taken += taken
        return taken

    def _publish(self, session: Session, message: Message, packet_id: int, header: Header) -> None:
        """Publish it with what is left of its life, as a broker would; if nothing is, it is done with.

        A message expiry counts in whole seconds (MQTT 5, section 3.3.2.3.3), and by a clock that nobody sets.
        """
        properties = message.metadata
        if properties is not None and properties.message_expiry:
            age = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - header.boottime_ns
            left = properties.message_expiry - max(0, age) // 10**9
            if left <= 0 and message.qos < 2:
                self.expired += 1
                if is_telling(self.expired):
                    log.warning(
                        "channel %s: %d messages have expired while they waited", self.channel.name, self.expired
                    )
                self._finished(packet_id, "")
                return
            # One of QoS 2 may be half done, and then has to be completed, however late.
            properties = msgspec.structs.replace(properties, message_expiry=max(left, 1))
            message = msgspec.structs.replace(message, metadata=properties)
        session.publish(message, packet_id, self._finished)

    def _publish_exactly_once(self, session: Session, message: Message, packet_id: int, header: Header) -> None:
        """Publish it so that the broker knows it if it has had it before, and takes it for no other if it has not.

        What an earlier numbering, of an app that is gone, has left half done under our identifiers is completed before
        anything is published for the first time. That it was is written down before, too: whoever goes on after a crash
        then knows that what the broker holds under that identifier is this message.
        """
        number = header.sequence_number
        if number <= self._begun:
            self._unknown.discard(packet_id)
            self._publish(session, msgspec.structs.replace(message, dup=True), packet_id, header)
        elif self._unknown:
            if self._held_for is not session:
                self._held_for = session
                self._held.clear()
            self._held.append((packet_id, message, header))
            if len(self._held) == 1:
                for unknown in sorted(self._unknown):
                    session.release(unknown, partial(self._released, session))
        else:
            self._begun = number
            self._source.begin(header)
            self._publish(session, message, packet_id, header)

    def _released(self, session: Session, packet_id: int, refusal: str) -> None:
        self._unknown.discard(packet_id)
        while self._held and self._held_for is session and not self._unknown:
            packet_id, message, header = self._held.popleft()
            self._publish_exactly_once(session, message, packet_id, header)

    def _finished(self, packet_id: int, refusal: str) -> None:
        """Nothing more is to be done for this message: acknowledge all up to the first that is not done."""
        if refusal:
            self._refuse(refusal)
        inflight, done = self._inflight, self._done
        if inflight and inflight[0][0] == packet_id:
            header = inflight.popleft()[2]
            while done and inflight and inflight[0][0] in done:
                packet_id, _, header = inflight.popleft()
                done.discard(packet_id)
            self._source.acknowledge(header)
        else:
            done.add(packet_id)
        if self._waits:
            self._progress.set()

    def _refuse(self, refusal: str) -> None:
        self.refused += 1
        if is_telling(self.refused):
            log.error(
                "channel %s: the broker has refused %d messages so far: %s", self.channel.name, self.refused, refusal
            )
        self._on_trouble(f"the broker refuses messages: {refusal}")

    async def _wait_for_progress(self) -> None:
        self._progress = trio.Event()
        self._waits = True
        await self._progress.wait()
        self._waits = False
