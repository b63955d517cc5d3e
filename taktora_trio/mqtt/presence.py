"""Presence: a retained `Up` or `Down` on a topic of the connector's own, for whoever else is at the broker."""

from __future__ import annotations

import logging

import attrs
import trio
from trio_util import move_on_when

from taktora_trio.mqtt.options import LastWill, MqttOptions
from taktora_trio.mqtt.sessions.session import OWN_PACKET_IDS, Message, Session

__all__ = ["Presence", "with_presence"]

log = logging.getLogger(__name__)

UP, DOWN = b"Up", b"Down"


@attrs.define
class Presence:
    """Says at the broker whether the gateway is there. Nobody fails because a broker does not allow it."""

    topic: str | None
    _refused: bool = False

    def up(self, session: Session) -> None:
        self._publish(session, UP, OWN_PACKET_IDS, self._told)

    async def down(self, session: Session) -> None:
        """Say so before a polite end, at which there is no last will, and wait until the broker has it."""
        if self.topic is None or self._refused:
            return
        told = trio.Event()
        self._publish(session, DOWN, OWN_PACKET_IDS + 1, lambda packet_id, refusal: told.set())
        async with move_on_when(session.wait_until_lost):
            await told.wait()

    def _publish(self, session: Session, payload: bytes, packet_id: int, on_done: object) -> None:
        if self.topic is not None and callable(on_done):
            session.publish(Message(self.topic, payload, 1, retain=True), packet_id, on_done)

    def _told(self, packet_id: int, refusal: str) -> None:
        if refusal and not self._refused:
            self._refused = True
            log.info("the broker does not take the presence on %r: %s; presence=None is without", self.topic, refusal)


def with_presence(options: MqttOptions) -> tuple[MqttOptions, Presence]:
    """The same options with the presence's last will, and the presence that goes with it.

    None where the topic would need a client id and there is none, or where the app has a last will of its own.
    """
    topic = options.presence
    if topic is None or options.will is not None or ("{client_id}" in topic and options.client_id is None):
        return options, Presence(None)
    topic = topic.replace("{client_id}", options.client_id or "")
    return attrs.evolve(options, will=LastWill(topic, DOWN)), Presence(topic)
