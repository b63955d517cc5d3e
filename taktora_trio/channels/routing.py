"""Routing: where a channel's messages go to or come from. Each protocol has a class of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, TypeVar

from taktora_trio.channels.message import Metadata
from taktora_trio.errors import ConfigError, MessageError

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

    # For an `Exchange`

    def replies(self) -> Routing:
        """Return the routing below which the replies to requests go that are sent by this one.

        Raises `ConfigError` where the protocol has no request and reply, or this routing is not fit for requests.
        """
        raise ConfigError(f"{type(self).__name__} has no request and reply: its protocol knows no address to reply to")

    def of_this_client(self) -> Routing:
        """Return the routing of an inbound channel that is below this one and this deployment's alone.

        Its `address` may be incomplete: what tells deployments apart at the other side is known by the gateway. A
        `Metadata.response_topic` that is this address is completed by the gateway, too.
        """
        raise ConfigError(f"{type(self).__name__} has no addresses of a deployment's own")

    def of_any_client(self) -> Routing:
        """Return the routing of an outbound channel that reaches all that `of_this_client` returns anywhere."""
        raise ConfigError(f"{type(self).__name__} has no addresses of a deployment's own")

    def shared(self, group: str) -> Routing:
        """Return the same routing for an inbound channel that shares what comes with others of its group."""
        raise ConfigError(f"{type(self).__name__} can't divide messages among several deployments")

    # At each message

    def check_metadata(self, metadata: Metadata) -> None:  # noqa: B027 - a protocol may carry whatever it is
        """Raise `MessageError` for metadata that the protocol can't carry."""
