"""What every session promises. The same tests run against each implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from taktora_trio.connectors.mqtt.wire.limits import NO_LIMITS, BrokerLimits
from taktora_trio.connectors.mqtt.wire.message import OWN_PACKET_IDS, Message, OnDone, OnMessage
from taktora_trio.errors import ConnectorDown, ConnectorError

__all__ = [
    "OWN_PACKET_IDS",
    "ConnectFailed",
    "ConnectRefused",
    "Message",
    "OnDone",
    "OnMessage",
    "Session",
    "SessionLost",
]


class ConnectFailed(ConnectorError):
    """There is no connection now; trying again later may help.

    `answered` tells whether the broker has answered the login: that it refuses it for now (`True`), or by ending the
    connection without a word (`False`); `None` if it never came to that.
    """

    def __init__(self, message: str, *, answered: bool | None = None) -> None:
        super().__init__(message)
        self.answered = answered


class ConnectRefused(ConnectorDown):
    """The broker refused the client, and will until somebody changes something: its login, its id, its protocol.

    `code` is the broker's reason code as MQTT 5 has it (section 3.2.2.2); 0 if it gave none.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class SessionLost(ConnectorError):
    """The connection has ended. What was not acknowledged must be published again on the next one.

    `code` is the reason code with which the broker ended it (MQTT 5, section 3.14.2.1); 0 if it gave none. `silent`
    tells that the broker did not end it, but gave no sign of life.
    """

    def __init__(self, message: str, code: int = 0, *, silent: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.silent = silent


class Session(ABC):
    """One connection, from CONNACK to its end. Entering it connects, leaving it sends DISCONNECT.

    `on_message`, given when it is opened, is called for each message in the order of arrival, in the trio thread; it
    must not block nor raise. A message with QoS 1 or 2 is acknowledged to the broker when `acknowledge` is called, and
    not before.
    """

    session_present: bool = False
    """Whether the broker still had the state of an earlier connection of this client (MQTT 3.1.1, section 3.2.2.2)."""
    limits: BrokerLimits = NO_LIMITS
    """What the broker has said that it takes. What it wouldn't is refused without being sent."""

    @abstractmethod
    async def subscribe(self, filters: Mapping[str, int]) -> dict[str, str]:
        """Subscribe to each filter at its QoS, wait for the broker's answer, and return what it refused.

        That is each filter it refused with its reason, by name; it has granted the others. With MQTT 5, what is
        retained comes only where the session had no such subscription (section 3.8.3.1). Raises `SessionLost`.
        """

    @abstractmethod
    async def unsubscribe(self, filters: Iterable[str]) -> dict[str, str]:
        """Unsubscribe from each filter and wait for the broker's answer; one that is not subscribed is no error.

        Returns the filters that the broker refused to unsubscribe, with its reasons (MQTT 5). Raises `SessionLost`.
        """

    @abstractmethod
    def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
        """Send after everything of the same QoS published before, without waiting.

        `packet_id` (1 to 65535) must not be in use on this connection; at QoS 0 it only comes back. What is published
        again on a later connection takes the same one as before: by it the broker knows the message
        (MQTT-4.4.0-1), and does not deliver it twice at QoS 2.

        `on_done(packet_id, refusal)` is called when nothing more is to be done for the message: it was written to the
        socket (QoS 0), or acknowledged or refused by the broker (QoS 1, 2). It is never called for a message that was
        lost with the session.
        """

    @abstractmethod
    def acknowledge(self, message: Message) -> None:
        """The inbound message is safe: the broker may forget it.

        Acknowledgements go out in the order in which the messages came (MQTT-4.6.0-2), so this one may still wait for
        those before it. On a session that is lost it is kept for the next one with the same `ClientState`.
        """

    def release(self, packet_id: int, on_done: OnDone) -> None:
        """Complete what the broker may still hold under this identifier, of which nobody here knows (QoS 2).

        `on_done(packet_id, "")` is called when the broker holds nothing: at once, where a session has nothing to do.
        """
        on_done(packet_id, "")

    @abstractmethod
    def pause_reading(self) -> None:
        """Take nothing more from the broker: the last resort against more than there is room for."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Go on taking what the broker sends."""

    @abstractmethod
    async def wait_until_lost(self) -> SessionLost:
        """Wait for the end of the connection and return why it ended."""
