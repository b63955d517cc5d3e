"""Routing: where a channel's messages go to or come from. Each protocol has a class of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, TypeVar

from taktora_trio.channels.message import Metadata
from taktora_trio.errors import MessageError

__all__ = ["Routing"]

T = TypeVar("T")


class Routing(ABC):
    """The address of a channel in the connector's protocol. Each protocol derives its own class from it."""

    max_payload: ClassVar[int | None] = None
    """The largest payload that the protocol can carry, in bytes; `None` if it has no limit of its own."""

    @property
    @abstractmethod
    def address(self) -> str:
        """The topic, or the pattern of topics."""

    @property
    @abstractmethod
    def is_pattern(self) -> bool:
        """True if `address` stands for many topics. Each message must then carry its own."""

    @abstractmethod
    def check(self, direction: Literal["out", "in"]) -> None:
        """Raise `ConfigError` if a channel of that direction can't use this routing."""

    def topic_of(self, message_type: type[T]) -> Callable[[T], str] | None:
        """Return a function that makes an outbound message's topic from its fields; `None` if there are no fields.

        Raises `ConfigError` for a type whose messages lack these fields. The function raises `MessageError`.
        """
        return None

    def fields_of(self, message_type: type) -> Callable[[str], dict[str, object]] | None:
        """Return a function that reads fields of an inbound message from its topic; `None` if there are no fields.

        Raises as `topic_of` does.
        """
        return None

    def check_topic(self, topic: str) -> None:
        """Raise `MessageError` unless an outbound message can go to this concrete topic."""
        if not self.is_pattern:
            raise MessageError(f"all messages of this channel go to {self.address!r}: leave topic={topic!r} out")

    def check_metadata(self, metadata: Metadata) -> None:  # noqa: B027 - a protocol may carry whatever it is
        """Raise `MessageError` for metadata that the protocol can't carry."""
