"""Presence: a retained `Up` or `Down` on a topic of the connector's own, for whoever else is at the broker."""

from __future__ import annotations

import logging

import attrs
import trio
from trio_util import move_on_when

from taktora_trio.connectors.mqtt.options import LastWill, MqttOptions
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed, ConnectRefused, Session
from taktora_trio.connectors.mqtt.wire.message import OWN_PACKET_IDS, Message, OnDone

__all__ = ["Presence", "with_presence"]

log = logging.getLogger(__name__)

UP, DOWN = b"Up", b"Down"
# Not authorized, topic name invalid, payload format invalid, retain not supported, QoS not supported
_OF_A_WILL = {0x87, 0x90, 0x99, 0x9A, 0x9B}
_UNANSWERED = 2  # connections that ended without an answer to it, or to the login, after which it is in doubt


@attrs.define
class Presence:
    """Publishes `Up` and `Down`, and gives up where a broker does not take them.

    It is on by default, so no broker's access rules may turn it into a failure: the broker may refuse the message, end
    the connection instead (MQTT 3.1.1, section 3.3.5), or refuse the will and with it the login.
    """

    topic: str | None
    is_answered: bool = False
    """True if the broker has answered to it on this connection."""
    _unanswered: int = 0
    _logins_unanswered: int = 0
    _doubted: bool = False  # whether the will was in question since somebody last changed something
    _without_will: bool = False

    def up(self, session: Session) -> None:
        """Publish `Up` on a new connection."""
        self.is_answered = False
        if self.topic is None:
            return
        if self._without_will:
            self.give_up("the broker refused the login with its last will, and not without")
            return
        if self._unanswered >= _UNANSWERED:
            self.give_up("the broker ends the connection because of it; perhaps for a sign in the client_id")
            return
        # Without its will the login was answered. Whether that was why, the answer to this one tells.
        self._unanswered += _UNANSWERED if self._is_on_trial else 1
        self._publish(session, UP, OWN_PACKET_IDS, self._answered)

    async def down(self, session: Session) -> None:
        """Publish `Down` before a polite end, at which there is no last will, and wait until the broker has it."""
        if self.topic is None:
            return
        answered = trio.Event()
        self._publish(session, DOWN, OWN_PACKET_IDS + 1, lambda packet_id, refusal: answered.set())
        async with move_on_when(session.wait_until_lost):
            await answered.wait()

    def applied_to(self, options: MqttOptions) -> MqttOptions:
        """Return the options for the next login."""
        without = self._without_will or self._is_on_trial or self._unanswered >= _UNANSWERED
        return attrs.evolve(options, will=None) if without else options

    def ended(self, failure: Exception) -> None:
        """Note the end of a connection or attempt: it may be because of the will, of which the app knows nothing.

        Where the broker refuses the login, the next one goes without it; if that is refused too, it was not the will.
        Where it ends the connection instead of answering, as NATS does for a topic that it can't have, one login in
        three goes without it. One attempt is one login: more may lock an account.
        """
        if self.topic is None:
            return
        if isinstance(failure, ConnectRefused):
            self._without_will = not self._doubted and failure.code in _OF_A_WILL
            self._doubted = True
        elif isinstance(failure, ConnectFailed) and failure.answered is False:
            self._logins_unanswered += 1

    @property
    def _is_on_trial(self) -> bool:
        """True if the login goes without a will, to see if that is answered."""
        return self._logins_unanswered % (_UNANSWERED + 1) == _UNANSWERED

    def revived(self) -> None:
        """Try again with presence: an operator asks for a login at once, and may have changed what was refused."""
        if self.topic is not None:
            self._doubted = self._without_will = False
            self._unanswered = self._logins_unanswered = 0

    def give_up(self, reason: str) -> None:
        """Publish nothing any more, and log why."""
        log.warning(
            "no presence on %r: %s; MqttOptions(presence=None) is without",
            self.topic,
            reason,
            extra={"event": "presence-refused"},
        )
        self.topic = None

    def _publish(self, session: Session, payload: bytes, packet_id: int, on_done: OnDone) -> None:
        assert self.topic is not None
        session.publish(Message(self.topic, payload, 1, retained=True), packet_id, on_done)

    def _answered(self, packet_id: int, refusal: str) -> None:
        self._unanswered = self._logins_unanswered = 0
        self.is_answered = True
        if refusal:
            self.give_up(f"the broker does not take it: {refusal}")


def with_presence(options: MqttOptions) -> tuple[MqttOptions, Presence]:
    """Return the same options with the presence's last will, and the presence that goes with it."""
    topic = options.presence_topic
    if topic is None:
        return options, Presence(None)
    return attrs.evolve(options, will=LastWill(topic, DOWN)), Presence(topic)
