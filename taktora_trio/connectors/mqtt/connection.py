"""One connection to a broker, as the bridge knows it: sequence numbers outside, packet identifiers inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from taktora_trio.channels import Envelope
from taktora_trio.connectors.connection import Connection, Incoming, OnDone
from taktora_trio.connectors.mqtt.outbound import OutboundChannel
from taktora_trio.connectors.mqtt.presence import Presence
from taktora_trio.connectors.mqtt.sessions.session import Session, SessionLost
from taktora_trio.connectors.mqtt.subscriptions import Subscriptions
from taktora_trio.connectors.mqtt.wire.message import Message

__all__ = ["MqttConnection"]


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
    ) -> None:
        self._session = session
        self._channels = channels
        self._subscriptions = subscriptions
        self._presence = presence
        self._publish = session.publish
        self.acknowledge = session.acknowledge  # type: ignore[method-assign, assignment] # a call less for each message
        exactly_once = [channel.exactly_once for channel in channels.values() if channel.exactly_once is not None]
        self._share_of_qos_2 = max(1, session.limits.of_qos_2 // max(1, len(exactly_once)))
        for channel in exactly_once:
            channel.connected(session)

    async def start(self) -> None:
        await self._subscriptions.renew(self._session)
        self._presence.up(self._session)

    def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
        to = self._channels[channel]
        qos, header = to.qos, envelope.header
        message = Message(
            envelope.topic,
            envelope.payload,
            qos,
            redelivered=again and qos == 1,  # at QoS 2 it depends on what was begun
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

    def acknowledge(self, message: Incoming) -> None:
        self._session.acknowledge(cast(Message, message))

    def pause_reading(self) -> None:
        self._session.pause_reading()

    def resume_reading(self) -> None:
        self._session.resume_reading()

    async def wait_until_lost(self) -> SessionLost:
        return await self._session.wait_until_lost()

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
