"""What every session promises. The same tests run against each implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeAlias

import attrs

from taktora_trio.errors import ConnectorDown, ConnectorError

__all__ = ["ConnectFailed", "ConnectRefused", "Message", "OnMessage", "Session", "SessionLost"]


@attrs.frozen
class Message:
    """An application message, to or from the broker."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


OnMessage: TypeAlias = Callable[[Message], None]


class ConnectFailed(ConnectorError):
    """There is no connection now; trying again later may help."""


class ConnectRefused(ConnectorDown):
    """The broker refused the client for a reason that does not pass: its login, its id, its protocol version."""


class SessionLost(ConnectorError):
    """The connection has ended. What was not acknowledged must be published again on the next one."""


class Session(ABC):
    """One connection, from CONNACK to its end. Entering it connects, leaving it sends DISCONNECT.

    `on_message`, given when it is opened, is called for each message in the order of arrival, in the trio thread; it
    must not block nor raise.
    """

    @abstractmethod
    async def subscribe(self, filters: Mapping[str, int]) -> None:
        """Subscribe to each filter at its QoS and wait for the broker's answer.

        Raises `SessionLost`, and `ConnectRefused` naming the filters the broker refused.
        """

    @abstractmethod
    def publish(self, message: Message, on_done: Callable[[], None]) -> None:
        """Send after everything published before, without waiting.

        `on_done` is called when nothing more is to be done for the message: it was written to the socket (QoS 0) or
        acknowledged by the broker (QoS 1, 2). It is never called for a message that was lost with the session.
        """

    @abstractmethod
    async def wait_until_lost(self) -> SessionLost:
        """Wait for the end of the connection and return why it ended."""
