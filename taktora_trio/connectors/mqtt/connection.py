"""One connection to a broker, as the bridge knows it: sequence numbers outside, packet identifiers inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import cast

import msgspec
import trio
from trio_util import move_on_when

from taktora_trio.channels import Envelope
from taktora_trio.connectors.connection import Connection, ConnectionLeft, ConnectionLost, Incoming, OnDone
from taktora_trio.connectors.mqtt.outbound import OutboundChannel
from taktora_trio.connectors.mqtt.own_topics import with_own_topic
from taktora_trio.connectors.mqtt.presence import Presence
from taktora_trio.connectors.mqtt.sessions.session import Session
from taktora_trio.connectors.mqtt.subscriptions import Subscriptions
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.connectors.mqtt.wire.state import SessionState

__all__ = ["MqttConnection", "Place"]


class Place(msgspec.Struct, frozen=True):
    """Where a connection is, for a client of several brokers, each with a session of its own."""

    broker: int
    """A number that stands for this broker, for the next gateway too; more than 0."""
    has_moved: bool
    """True if the connection before was to another one, of this gateway or of the one before."""
    note: Callable[[], None] = lambda: None
    """Has the next gateway know that this is where the last connection was."""
    others: Sequence[SessionState] = ()
    """The sessions at the other brokers."""
    begin: Callable[[], None] | None = None
    """Has a session deliver that was opened ahead, and whose reading is paused."""


class MqttConnection(Connection):
    """A session, with the client's knowledge of its channels.

    The number of messages that the broker takes at QoS 2 is divided among the channels of QoS 2, and no channel uses
    another's part. So after any crash, too, no more exchanges are half done at the broker than it takes.
    """

    def __init__(
        self,
        session: Session,
        channels: Mapping[str, OutboundChannel],
        subscriptions: Subscriptions,
        presence: Presence,
        place: Place | None = None,
        own_topics: Mapping[str, str] | None = None,
    ) -> None:
        """`place` is for a client of several brokers; `own_topics` are those that `of_client` returns."""
        self.is_up = False
        """True once it is subscribed."""
        self._session = session
        self._channels = channels
        self._subscriptions = subscriptions
        self._presence = presence
        self._publish = session.publish
        self.acknowledge = session.acknowledge  # type: ignore[method-assign, assignment] # a call less for each message
        exactly_once = [channel.exactly_once for channel in channels.values() if channel.exactly_once is not None]
        self._share_of_qos_2 = max(1, session.limits.of_qos_2 // max(1, len(exactly_once)))
        for channel in exactly_once:
            channel.connected(session, 0 if place is None else place.broker)
        self._has_moved = place is not None and place.has_moved
        self.resumed = session.session_present and not self._has_moved
        self._left = trio.Event()
        self._reason = ""  # for leaving
        self._is_paused = False
        if own_topics:
            self._own_topics = own_topics
            self.publish = self._publish_asking  # type: ignore[method-assign]
        self._note = place.note if place is not None else None
        self._begin = place.begin if place is not None else None
        if place is not None:
            self._elsewhere = place.others
            self.acknowledge = self._acknowledge_anywhere  # type: ignore[method-assign]

    async def start(self) -> None:
        if self._note is not None:
            # Not before: readers must have been told of a move. Nor later: then a message from here may have come.
            self._note()
        if self._begin is not None:
            self._begin()
            if not self._is_paused:
                self._session.resume_reading()
        await self._subscriptions.renew(self._session)
        self.is_up = True
        self._presence.up(self._session)

    def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
        to = self._channels[channel]
        qos, header = to.qos, envelope.header
        message = Message(
            envelope.topic,
            envelope.payload,
            qos,
            redelivered=again and qos == 1 and not self._has_moved,  # at QoS 2 it depends on what was begun
            retained=to.retain,
            metadata=envelope.metadata,
            correlation_id=header.correlation_id,
        )
        number = header.sequence_number
        if qos == 0:  # it has no identifier; the number only comes back
            self._publish(message, number, on_done)
            return
        slot = number % to.ids
        to.numbers[slot], to.on_done = number, on_done
        if to.exactly_once is None:
            self._publish(message, to.first_id + slot, to.finish)
        else:
            to.exactly_once.publish(message, to.first_id + slot, header, to.finish)

    def _publish_asking(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
        """Publish a message that may ask for an answer on a topic of this client."""
        envelope = with_own_topic(envelope, self._own_topics)
        MqttConnection.publish(self, channel, envelope, on_done, again=again)

    def acknowledge(self, message: Incoming) -> None:
        self._session.acknowledge(cast(Message, message))

    def pause_reading(self) -> None:
        self._is_paused = True
        self._session.pause_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        self._session.resume_reading()

    async def wait_until_lost(self) -> ConnectionLost:
        async with move_on_when(self._left.wait):
            return await self._session.wait_until_lost()
        return ConnectionLeft(self._reason)

    def leave(self, reason: str) -> None:
        """End the connection for the bridge, which publishes nothing more. Then call `finish`."""
        self._reason = reason
        self._left.set()

    @property
    def is_left(self) -> bool:
        return self._left.is_set()

    async def finish(self, patience: float) -> None:
        """Wait for the answers to what was published, but no longer than so many seconds, and say `Down`.

        What is not acknowledged then is published again on the next connection.
        """
        with trio.move_on_after(patience):
            async with move_on_when(self._session.wait_until_lost):
                await self._wait_until_answered()
                await self._presence.down(self._session)

    async def _wait_until_answered(self) -> None:
        answered = trio.Event()

        def noting(on_done: OnDone) -> OnDone:
            def note(number: int, refusal: str) -> None:
                on_done(number, refusal)
                if not self._session.unanswered:
                    answered.set()

            return note

        if self._session.unanswered:
            for channel in self._channels.values():
                channel.on_done = noting(channel.on_done)
            await answered.wait()

    def _acknowledge_anywhere(self, message: Incoming) -> None:
        """Acknowledge a message where it came from: here, or at a broker that gets to know when it is used again."""
        self._session.acknowledge(cast(Message, message))
        for state in self._elsewhere:
            state.acknowledge(cast(Message, message))

    def in_batches(self, answers: AbstractContextManager[object]) -> AbstractContextManager[object]:
        return self._session.in_batches(answers)

    def most_in_flight(self, channel: str) -> int:
        to = self._channels[channel]
        return min(to.ids, self._share_of_qos_2) if to.exactly_once is not None else to.ids

    def refused_channels(self) -> Sequence[str]:
        return self._subscriptions.complaints

    async def ask_again(self) -> None:
        await self._subscriptions.ask_again(self._session)

    async def farewell(self) -> None:
        await self._presence.down(self._session)

    @property
    def is_answered(self) -> bool:
        return self._presence.is_answered
