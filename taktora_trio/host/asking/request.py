"""Request: what a handler gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from taktora_trio.channels import Metadata, Received

__all__ = ["Request"]

Q = TypeVar("Q")


class Request(Generic[Q]):
    """One request in the hand of its handler, which is called with it by `host.serve`.

    What the handler returns is the reply.
    """

    __slots__ = ("_report", "deadline", "received")

    def __init__(self, received: Received[Q], deadline: float, report: Callable[[Any], Awaitable[None]]) -> None:
        self.received = received
        """The message, with all that came with it; for example for `trace_context`."""
        self.deadline = deadline
        """By trio's clock: when nobody waits for the reply any more. The handler is cancelled then. Infinite where the
        requester has not said it."""
        self._report = report

    def __repr__(self) -> str:
        return f"Request({self.value!r}, topic={self.topic!r})"

    @property
    def value(self) -> Q:
        return self.received.value

    @property
    def topic(self) -> str:
        """The concrete topic that it was sent to."""
        return self.received.topic

    @property
    def metadata(self) -> Metadata:
        return self.received.metadata or Metadata()

    @property
    def redelivered(self) -> bool:
        """True if the handler may have been called for it before, by a process of this app that has ended since."""
        return self.received.redelivered

    async def report(self, reply: Any) -> None:
        """Send an interim reply: of the exchange's reply type, before the one that the handler returns.

        For example that a command was accepted. Who asks by `requester.call` gets it. Raises `CodecError` and
        `PayloadOverflow`.
        """
        await self._report(reply)
