"""The seam: what a protocol implements, so that a gateway can carry an app's channels.

An app declares a `Connector`. In the gateway the connector makes a `Client`, which lives as long as the gateway and
keeps what outlives a connection. The client opens one `Connection` after another. All the rest is written once, in this
package: connecting again with backoff, the ledger of messages in flight, resending after a lost connection, the bounded
inbound backlog, the drain at a stop, and what the health shows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, TypeAlias

import msgspec

from taktora_trio.channels import Envelope, Metadata
from taktora_trio.errors import ConnectorDown, ConnectorError

__all__ = [
    "Client",
    "ConnectFailed",
    "ConnectRefused",
    "Connection",
    "ConnectionLost",
    "Guarantee",
    "Incoming",
    "OnDone",
    "OnMessage",
]


class _Content(msgspec.Struct, frozen=True, gc=False):
    topic: str
    payload: bytes


class Incoming(_Content, frozen=True, gc=False, kw_only=True):
    """A message from the other side. A protocol may derive its own from it, with what it needs to acknowledge it."""

    reliable: bool = False
    """True if the other side keeps the message until `Connection.acknowledge`. It is then never discarded for want of
    room; one that is not reliable may be, and that is counted and shown."""
    metadata: Metadata | None = None
    correlation_id: bytes = b""
    retained: bool = False
    """True if the other side had kept the message for whoever subscribes, so that it may be old."""
    skipped: int = 0
    """Bytes of a payload that is larger than any channel takes and was therefore not kept; `payload` is then empty."""


OnMessage: TypeAlias = Callable[[Incoming], None]
"""Called with each message in the order of arrival. It never waits, and a connector lets through what it raises."""
OnDone: TypeAlias = Callable[[int, str], None]
"""Called with a message's sequence number, and the reason if the other side refused it; the reason is else empty."""

Guarantee: TypeAlias = Literal["at most once", "at least once", "exactly once"]
"""How often a message of a channel arrives, whatever fails."""


class ConnectFailed(ConnectorError):
    """There is no connection now. Trying again later may help."""


class ConnectRefused(ConnectorDown):
    """The other side refuses the client, and will until somebody changes something. Tried again after minutes."""


class ConnectionLost(ConnectorError):
    """The connection has ended. What was not acknowledged is published again on the next one.

    `silent` is true if the other side did not end it, but gave no sign of life.
    """

    def __init__(self, message: str, *, silent: bool = False) -> None:
        super().__init__(message)
        self.silent = silent


class Connection(ABC):
    """One connection, from its beginning to its end.

    All is called in one trio thread. What is not async returns at once, and on a connection that is lost it does
    nothing. It is not to raise. Should `publish` do so all the same, the connection is ended for it; if that happens at
    the same message again and again, the message is set aside.
    """

    @abstractmethod
    def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
        """Send a message of this channel behind those of the channel before it, without waiting.

        The message is known by its channel and its `envelope.header.sequence_number`, which grows by at least 1 from
        message to message of a channel. Its `message_expiry` is what is left of its life.

        Call `on_done(sequence_number, refusal)` once, when nothing more is to be done for the message: it was written
        (where it is not acknowledged), or acknowledged, or refused. It may be called from within `publish`. Never call
        it for a message that was lost with the connection: that one comes again on the next connection, with `again`.
        """

    @abstractmethod
    def acknowledge(self, message: Incoming) -> None:
        """Tell the other side that this reliable message is safe.

        It may have come on an earlier connection. Then do nothing where the protocol knows it no more: the other side
        sends it again.
        """

    @abstractmethod
    def pause_reading(self) -> None:
        """Take nothing more from the other side: there is no room for it."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Go on taking."""

    @abstractmethod
    async def wait_until_lost(self) -> ConnectionLost:
        """Wait for the end of the connection and return why it ended. Several tasks may wait."""

    async def start(self) -> None:  # noqa: B027 - not every protocol has something to do
        """Ask for the messages of the inbound channels, say hello, and so on; then the connection counts as up.

        It is called once. Messages may come meanwhile, and are acknowledged here. Raises `ConnectionLost`.
        """

    def most_in_flight(self, channel: str) -> int | None:
        """Return how many messages of a channel may be in flight on this connection; `None` if only our own limit
        counts (`ConnectorOptions.max_inflight`).

        The sequence numbers of what is in flight lie closer together than that, also where some are left out: so a
        protocol may derive an identifier from them, and no two messages have the same.
        """
        return None

    def refused_channels(self) -> Sequence[str]:
        """Return a line for each channel whose messages the other side refuses to send, with the reason.

        While there are some the connector is `Degraded`, and `ask_again` is called now and then.
        """
        return ()

    async def ask_again(self) -> None:  # noqa: B027 - most protocols refuse nothing
        """Ask the other side once more for what it has refused. Raises `ConnectionLost`."""

    async def farewell(self) -> None:  # noqa: B027 - most protocols have none
        """Say goodbye before a polite end, behind everything that was published. Bounded in time by the caller."""

    @property
    def is_answered(self) -> bool:
        """True if the other side has answered something else than the app's messages on this connection.

        It shows that the connection works, so that a loss behind a message may be that message's fault.
        """
        return False


class Client(ABC):
    """A protocol's side of one gateway, over all its connections."""

    @abstractmethod
    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """Open a connection: entering connects, leaving disconnects.

        Messages may come as soon as the block is entered, by the `on_message` that the client was made with, and not
        before. Entering is bounded in time by the client, for nobody else does it. Raises `ConnectFailed`,
        `ConnectRefused` and `ConnectionLost`; whatever else is raised ends this connection alone, too.

        A stop cancels the attempt to connect, but nothing once `start` has returned: what is queued is then published
        first, and the block is left. So tasks that serve the connection may stand in a plain nursery of it.
        """

    @abstractmethod
    def channels_of(self, topic: str) -> Iterable[str]:
        """Return the names of the inbound channels that a message on this topic is for. The answer never changes."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it connects to, for people; without secrets."""

    def guarantee(self, channel: str) -> Guarantee:
        """Return what is promised of this outbound channel's messages. The answer never changes.

        At most once, `on_done` is called when a message was written; else when the other side has acknowledged it.
        Exactly once, a message that may be half done is published again even if it has expired.
        """
        return "at least once"

    def ended(self, failure: Exception) -> None:  # noqa: B027 - most protocols learn nothing from it
        """A connection, or an attempt at one, has ended with this failure."""

    def revived(self) -> None:  # noqa: B027
        """Somebody asks for an attempt at once, and may have mended what was refused."""

    def set_aside(self, channel: str, envelope: Envelope) -> None:  # noqa: B027
        """This message was given up, since the other side ends the connection behind it each time."""

    def hint(self, failure: Exception, losses: int) -> str:
        """Return what may be the cause of a failure, for people; empty if nothing is known.

        `losses` counts the connections in a row that came up and were soon lost.
        """
        return ""
