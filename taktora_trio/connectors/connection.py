"""The seam: what a protocol implements, so that a gateway can carry an app's channels.

An app declares a `Connector`. In the gateway the connector makes a `Client`, which lives as long as the gateway and
keeps what outlives a connection. The client opens one `Connection` after another. All the rest is written once, in this
package: connecting again with backoff, the ledger of messages in flight, resending after a lost connection, the bounded
inbound backlog, the drain at a stop, and what the health shows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Literal, TypeAlias

import msgspec

from taktora_trio.channels import Envelope, Metadata
from taktora_trio.connectors.retry import Retry
from taktora_trio.errors import ConnectorDown, ConnectorError

__all__ = [
    "Client",
    "ConnectFailed",
    "ConnectRefused",
    "Connection",
    "ConnectionLeft",
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
    """A message from the other side: its topic, and its payload as it came, which the app's half decodes.

    A protocol may derive its own class from it, with fields that it needs to acknowledge the message.
    """

    reliable: bool = False
    """True if the other side keeps the message until `Connection.acknowledge`. It is then never discarded for want of
    room; one that is not reliable may be, and that is counted and shown."""
    metadata: Metadata | None = None
    correlation_id: bytes = b""
    retained: bool = False
    """True if the other side had kept the message for new subscribers, so that it may be old."""
    redelivered: bool = False
    """True if the other side says that it has sent the message before, and not seen it acknowledged."""
    delivery_id: int = 0
    """The number, from 1 to 65535, under which the other side sends a reliable message again until it is acknowledged;
    0 if it has none. By it, and its content, a message is known that an earlier gateway has handed over already."""
    order: int = 0
    """Messages that have the same number here, and not 0, are acknowledged in the order in which they came: for a
    protocol that demands it. Where it is 0, in whatever order the app is done with them."""
    skipped: int = 0
    """The size of a payload that was not kept, since it is larger than any channel takes; `payload` is then empty."""


OnMessage: TypeAlias = Callable[[Incoming], None]
"""Called with each message in the order of arrival, in trio's thread, while the block of `Client.connect` is open.

It never waits. What it raises is a fault of the gateway's own: let it through."""
OnDone: TypeAlias = Callable[[int, str], None]
"""Called with a message's sequence number, and the other side's reason for refusing it, which is empty if it did not.

It is called in trio's thread, while the block of `Client.connect` is open."""

Guarantee: TypeAlias = Literal["at most once", "at least once", "exactly once"]
"""The number of times that a message of a channel arrives, whatever fails."""


class ConnectFailed(ConnectorError):
    """There is no connection now. Trying again later may help.

    `overdue` is true if the other side is there, and did not answer in time: it may have too much to do, with a whole
    fleet that comes back. It is then left alone for longer.
    """

    def __init__(self, message: str, *, overdue: bool = False) -> None:
        super().__init__(message)
        self.overdue = overdue


class ConnectRefused(ConnectorDown):
    """The other side refuses the client, and will until somebody changes something. Tried again after minutes."""


class ConnectionLost(ConnectorError):
    """The connection has ended. What was not acknowledged is published again on the next one.

    `silent` is true if the other side did not end it, but gave no sign of life.
    """

    def __init__(self, message: str, *, silent: bool = False) -> None:
        super().__init__(message)
        self.silent = silent


class ConnectionLeft(ConnectionLost):
    """The client has left the connection, which worked, for a better one: the next attempt is made at once."""

    def __init__(self, message: str) -> None:
        super().__init__(message, silent=True)  # no message is at fault


class Connection(ABC):
    """One connection, from its beginning to its end.

    The gateway calls every method in its one trio thread, from several tasks. It calls `start` once, when the block of
    `Client.connect` is entered; `publish` after `start` has returned; and `farewell` last, if the end is polite.
    `acknowledge`, `pause_reading` and `resume_reading` may come at any time: before `start`, after a loss, and after
    the block is left, until the next connection is open.

    Methods that are not async return at once, do nothing on a connection that is lost or left, and don't raise. Should
    `publish` or `acknowledge` raise all the same, the connection is ended for it; if `publish` does so at the same
    message again and again, the message is set aside.

    A library with threads hands over what comes by `trio.lowlevel.TrioToken.run_sync_soon`, which keeps the order, and
    drops what would still come after the block is left.
    """

    resumed: bool = True
    """False if the other side has kept nothing of ours, or is another one than before: what it sends under a
    `delivery_id` that was used before is then another message. To be known when the block of `Client.connect` is
    entered."""

    @abstractmethod
    def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
        """Send a message of this channel behind those of the channel before it, without waiting.

        Publish `envelope.payload` as it is, on `envelope.topic`, which is the routing's address where the app names no
        topic. The message is known by its channel and its `envelope.header.sequence_number`, which grows by at least 1
        from message to message of a channel. The `message_expiry` of its metadata is the rest of its life in seconds.

        Call `on_done(sequence_number, refusal)` once, when nothing more is to be done for the message: it was written
        (where it is not acknowledged), or acknowledged, or refused. It may be called from within `publish`, and in
        another order than the messages were published. Never call it for a message that was lost with the connection:
        that one comes again on the next connection, with `again`. No more than `ConnectorOptions.max_inflight` messages
        of a channel are published and not done, which bounds whatever keeps them until they are written.

        Where `Connector.takes_views` is true, the payload of a large message is no bytes, but a read-only `memoryview`
        of shared memory. Read it before `on_done` is called, and keep it no longer: then the app may write there.
        """

    @abstractmethod
    def acknowledge(self, message: Incoming) -> None:
        """Tell the other side that the app is done with this reliable message, or that it is safe otherwise.

        Messages with an `order` come in it, others in any. Let nothing leave before the caller's next checkpoint, or
        the end of a block of `in_batches`, but put it into what is written next: the gateway writes down what it is
        about to acknowledge. The message may have come on an earlier connection. Then do nothing where the protocol
        knows it no more: the other side sends it again.
        """

    @abstractmethod
    def pause_reading(self) -> None:
        """Take no more messages from the other side, for there is no room. May be called twice, and before `start`.

        What was read already may still be handed to `on_message`. While it lasts, don't take the other side for silent.
        """

    @abstractmethod
    def resume_reading(self) -> None:
        """Take messages again."""

    @abstractmethod
    async def wait_until_lost(self) -> ConnectionLost:
        """Wait for the end of the connection and return the reason. Several tasks may wait, also after the end."""

    async def start(self) -> None:  # noqa: B027 - not every protocol has something to do
        """Ask for the messages of the inbound channels, and return when the other side has agreed: it is `Up` then.

        Messages may come meanwhile, and are acknowledged on this connection. Nobody else bounds the time that it takes.
        Raises `ConnectionLost`, and may raise all that `Client.connect` may.
        """

    def most_in_flight(self, channel: str) -> int | None:
        """Return how many messages of a channel may be in flight on this connection, if it has a limit of its own.

        It is asked after `start`. `ConnectorOptions.max_inflight` counts as well, and alone where this is `None`.

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

    def in_batches(self, answers: AbstractContextManager[object]) -> AbstractContextManager[object]:
        """Enter `answers` from now on around the handing over of what has come together, by `on_done` and `on_message`.

        Return a block at whose end all is written, as far as it can be without waiting, that was published and
        acknowledged in it. So a batch takes one turn of the loop, and the app is told of it once. By default neither is
        done. It is called when the gateway begins to publish, and at the end, with another block to enter.
        """
        return nullcontext()

    async def farewell(self) -> None:  # noqa: B027 - most protocols have none
        """Say goodbye behind everything that was published. Called at a stop, which gives it half a second."""

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
        """Open a connection: entering connects, leaving disconnects. There is never more than one at a time.

        Call the `on_message` that the client was made with as soon as the block is entered, never before, and never
        after it is left. The same goes for each `on_done`. Bound the time for entering, for nobody else does it. Raises
        `ConnectFailed`, `ConnectRefused` and `ConnectionLost`; whatever else is raised ends this connection alone, too.

        A stop cancels the attempt to connect, but nothing once `start` has returned: the gateway then publishes what is
        queued, and leaves the block. So tasks that serve the connection may run in a plain nursery around the `yield`.
        An error that one of them raises ends the connection, too. Let `wait_until_lost` return all the same: a stop
        that is publishing what is queued would else wait until its time is over.
        """

    @abstractmethod
    def channels_of(self, topic: str) -> Iterable[str]:
        """Return the names of the inbound channels that a message on this topic is for; none if it is for no channel.

        The answer never changes: it is remembered.
        """

    @property
    @abstractmethod
    def address(self) -> str:
        """The address that it connects to, for people and logs: without secrets."""

    @property
    def place(self) -> str:
        """The address once more, where it is one of several: the health shows it. Empty if there is only one."""
        return ""

    def guarantee(self, channel: str) -> Guarantee:
        """Return how often a message of this outbound channel arrives. It is asked once, before anything is connected.

        At most once, `on_done` is called when a message was written; else when the other side has acknowledged it.
        Exactly once, a message that may be half done is published again even if it has expired.
        """
        return "at least once"

    def ended(self, failure: Exception) -> None:  # noqa: B027 - most protocols learn nothing from it
        """Called when a connection, or an attempt at one, has ended with this failure; not at a stop."""

    def next_attempt(self, retry: Retry) -> Retry:
        """Return when to attempt again, called after `ended`; by default as `retry` says.

        A client with several addresses chooses the next one here: then `retry` is about the one that failed, and the
        result about the one that `address` names from now on.
        """
        return retry

    async def serve(self) -> None:  # noqa: B027 - most protocols have nothing that outlives a connection
        """Serve whatever outlives a connection. Called once; cancelled when the gateway ends. It may return."""

    def revived(self) -> None:  # noqa: B027 - most protocols change nothing then
        """Called when an operator asks for an attempt at once: what was refused may have been mended."""

    def set_aside(self, channel: str, envelope: Envelope) -> None:  # noqa: B027 - most protocols keep nothing of it
        """Called when this message is given up, since the connection ends behind it each time."""

    def hint(self, failure: Exception, losses: int) -> str:
        """Return the possible cause of a failure, for people; empty if nothing is known.

        `losses` counts the connections in a row that came up and were soon lost.
        """
        return ""
