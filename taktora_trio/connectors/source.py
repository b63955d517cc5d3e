"""Source: where an outbox takes one channel's messages from, and whom it tells what became of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from taktora_trio.channels import Envelope, Header

if TYPE_CHECKING:
    from taktora_trio.connectors.pump import Turn

__all__ = ["Source"]


class Source(Protocol):
    """One outbound channel, seen from the connection: its messages in order, each with a number of its own.

    The shared memory is one (`transport.source.PayloadSource`); a store on disk in front of it is another. The outbox
    takes from it, also while there is no connection, as much as its window holds. It calls `acknowledge` and `settled`
    for what it has taken alone, in its one trio thread; nothing ever waits.
    """

    announces: bool
    """True if whatever `is_behind` does not tell of is announced when it comes (`watch`): then nobody looks for it when
    the other side has made room."""

    def receive_nowait(self) -> Envelope:
        """Return the next message. Numbers grow by at least 1.

        Raises `trio.WouldBlock` if there is none, `Discarded` for a message that can't be published, with its number
        if that is known (the outbox then settles it), and any other `TransportError` for what is no message.
        """
        raise NotImplementedError

    def watch(self, turn: Turn) -> None:
        """Ask for this turn from now on whenever `receive_nowait` may have something that it had not before, and when
        somebody has come to send. It may be asked for too early."""
        raise NotImplementedError

    def attach(self) -> None:
        """Attach to a writer that has come, so that what it sends is ours even if it is killed. Takes nothing."""
        raise NotImplementedError

    @property
    def is_behind(self) -> bool:
        """True if something was sent that has not been received yet."""
        raise NotImplementedError

    @property
    def unacknowledged(self) -> int:
        """The number of messages that were sent and that nobody but us answers for: the app's receipts say neither
        stored nor acknowledged. With this process, and the app's, they are lost."""
        raise NotImplementedError

    @property
    def stored(self) -> int:
        """The number up to which all messages are on disk; 0 where none is kept there."""
        raise NotImplementedError

    @property
    def has_writer(self) -> bool:
        """True if the app's end is open. Unacknowledged messages then wait there for the next gateway."""
        raise NotImplementedError

    @property
    def begun_before(self) -> int:
        """The number of the last message that an earlier gateway has begun to publish; 0 for none."""
        raise NotImplementedError

    def begin(self, header: Header, begun: Callable[[], None]) -> None:
        """Record that this message is about to be published, for the next gateway to know. Call it in order.

        It calls `begun` when that is recorded: at once, or later where it has to reach a disk.
        """
        raise NotImplementedError

    def acknowledge(self, header: Header) -> None:
        """Nothing more is to be done for this message and all before it: each is acknowledged by the other side, or was
        settled as refused. The app's receipts say so."""
        raise NotImplementedError

    def settled(self, number: int, refusal: str) -> None:
        """This message alone is acknowledged, before one that was sent earlier; or, with a reason, it was refused or
        given up. Called before the `acknowledge` that goes past it."""
        raise NotImplementedError
