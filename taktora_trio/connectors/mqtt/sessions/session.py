"""The interface of all sessions. The same tests run against each implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

from taktora_trio.connectors import connection
from taktora_trio.connectors.mqtt.wire.limits import NO_LIMITS, BrokerLimits
from taktora_trio.connectors.mqtt.wire.message import Message, OnDone
from taktora_trio.connectors.mqtt.wire.packet_ids import PacketIds

__all__ = [
    "ConnectFailed",
    "ConnectRefused",
    "Session",
    "SessionLost",
]


class ConnectFailed(connection.ConnectFailed):
    """There is no connection now. Trying again later may help.

    `answered` is true if the broker refused the login for now, false if it closed the connection instead of an answer,
    and `None` if no login was sent. `overdue` is true if a broker accepted the connection and did not answer in time.
    """

    def __init__(self, message: str, *, answered: bool | None = None, overdue: bool = False) -> None:
        super().__init__(message, overdue=overdue)
        self.answered = answered


class ConnectRefused(connection.ConnectRefused):
    """The broker refuses the client until somebody changes something: the login, the client id, the protocol.

    `code` is the broker's reason code as one of MQTT 5 (section 3.2.2.2); 0 if it gave none.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class SessionLost(connection.ConnectionLost):
    """The connection has ended. What was not acknowledged must be published again on the next one.

    `code` is the reason code with which the broker ended it (MQTT 5, section 3.14.2.1); 0 if it gave none. `silent` is
    true if the broker did not end it, but gave no sign of life.
    """

    def __init__(self, message: str, code: int = 0, *, silent: bool = False) -> None:
        super().__init__(message, silent=silent)
        self.code = code


class Session(ABC):
    """One connection, from CONNACK to its end. Entering it connects, leaving it sends DISCONNECT.

    It calls `on_message`, which it is opened with, for each message in the order of arrival, in trio's thread. That
    must neither block nor raise. A message of QoS 1 or 2 is acknowledged to the broker when `acknowledge` is called,
    and not before.
    """

    session_present: bool = False
    """True if the broker still had the state of an earlier connection of this client (MQTT 3.1.1, section 3.2.2.2)."""
    limits: BrokerLimits = NO_LIMITS
    """The limits that the broker has announced. A message beyond them is refused without being sent."""
    resumable: PacketIds = PacketIds()
    """QoS 2: the identifiers for which the broker has had its PUBLISH: `publish` goes on with PUBREL under one of them.

    Discard one before another message takes it. Only a session that outlives connections has any.
    """

    @abstractmethod
    async def subscribe(self, filters: Mapping[str, int]) -> dict[str, str]:
        """Subscribe to each filter at its QoS, wait for the broker's answer, and return the refused filters.

        Each comes with the name of the broker's reason. With MQTT 5, retained messages come only for a subscription
        that the session did not have (section 3.8.3.1). Raises `SessionLost`.
        """

    @abstractmethod
    async def unsubscribe(self, filters: Iterable[str]) -> dict[str, str]:
        """Unsubscribe from each filter, wait for the broker's answer, and return the refused filters.

        Each comes with the name of the broker's reason (MQTT 5). A filter that is not subscribed is no error. Raises
        `SessionLost`.
        """

    @abstractmethod
    def publish(self, message: Message, packet_id: int, on_done: OnDone) -> None:
        """Send a message behind all earlier ones of the same QoS, without waiting.

        `packet_id` (1 to 65535) must not be in use on this connection; at QoS 0 any number is only handed back. A
        message that is published again on a later connection takes the identifier that it had: the broker knows it by
        that (MQTT-4.4.0-1), and does not deliver it twice at QoS 2.

        `on_done(packet_id, refusal)` is called when nothing more is to be done for the message: it was written to the
        socket (QoS 0), or the broker has acknowledged or refused it (QoS 1, 2). It is never called for a message that
        was lost with the session.
        """

    @abstractmethod
    def acknowledge(self, message: Message) -> None:
        """Tell the broker that this inbound message is safe, so that it may forget it.

        Acknowledgements of each QoS go out in the order in which the messages came (MQTT-4.6.0-2 and -3), so this one
        may wait for those before it. None leaves before the caller's next checkpoint, or the end of a block of
        `in_batches`. If the session is lost, the next one with the same `ClientState` sends it.
        """

    def release(self, packet_id: int, on_done: OnDone) -> None:
        """Complete an exchange of QoS 2 that the broker may still hold under this identifier, of an earlier gateway.

        `on_done(packet_id, "")` is called when the broker holds nothing: at once, if the session has nothing to do.
        """
        on_done(packet_id, "")

    def in_batches(self, answers: AbstractContextManager[object]) -> AbstractContextManager[object]:
        """See `Connection.in_batches`."""
        return nullcontext()

    @abstractmethod
    def pause_reading(self) -> None:
        """Take nothing more from the broker: the last resort against more than there is room for."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Go on taking what the broker sends."""

    @property
    def unanswered(self) -> int:
        """The number of messages of QoS 1 and 2 that were published on this connection, and are not done."""
        return 0

    @abstractmethod
    async def wait_until_lost(self) -> SessionLost:
        """Wait for the end of the connection and return why it ended."""
