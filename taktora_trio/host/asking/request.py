"""Request: what a handler gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from taktora_trio.channels import Metadata

__all__ = ["Request"]

Q = TypeVar("Q")


class Request(Generic[Q]):
    """One request in the hand of its handler, which is called with it by `host.serve`.

    What the handler returns is the reply.
    """

    __slots__ = ("_report", "deadline", "metadata", "redelivered", "topic", "value")

    def __init__(
        self,
        value: Q,
        topic: str,
        metadata: Metadata,
        deadline: float,
        report: Callable[[Any], Awaitable[None]],
        *,
        redelivered: bool,
    ) -> None:
        self.value = value
        self.topic = topic
        """The concrete topic that it was sent to."""
        self.metadata = metadata
        self.deadline = deadline
        """By trio's clock: when nobody waits for the reply any more. The handler is cancelled then. Infinite where the
        requester has not said it."""
        self.redelivered = redelivered
        """True if the handler may have been called for it before, by a process of this app that has ended since."""
        self._report = report

    def __repr__(self) -> str:
        return f"Request({self.value!r}, topic={self.topic!r})"

    async def report(self, reply: Any) -> None:
        """Send an interim reply: of the exchange's reply type, before the one that the handler returns.

        For example that a command was accepted. Who asks by `requester.call` gets it. Raises `CodecError` and
        `PayloadOverflow`.
        """
        await self._report(reply)
