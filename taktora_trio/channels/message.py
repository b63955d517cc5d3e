"""Messages: what comes with a value (header, topic, metadata), as the app sees it and as a gateway does."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Annotated, Generic, TypeVar

import msgspec

__all__ = ["Envelope", "Header", "Metadata", "Received", "with_properties"]

T = TypeVar("T")


class Header(msgspec.Struct, frozen=True, gc=False):
    """The fixed fields that come with each message."""

    sequence_number: int
    """Counts the channel's messages from 1 for the life of the domain: a writer that is opened later goes on behind the
    one before it, also in another process. It grows by more than 1 where a writer was killed as it sent."""
    timestamp_ns: int
    """The time of its sending, in nanoseconds since the unix epoch: for people, by a clock that may be set."""
    boottime_ns: int = 0
    """The same by a clock that is never set: nanoseconds since the machine was started, with the time in which
    it was suspended (`CLOCK_BOOTTIME`, clock_gettime(2)). For durations: by the same clock now."""
    correlation_id: bytes = b""
    """The id that an answer is to bring back, exactly as it was sent; empty for none."""
    retained: bool = False
    """Inbound: see `Received.retained`."""
    redelivered: bool = False
    """Inbound: true if the other side says that it has sent the message before."""
    delivery_id: int = 0
    """Inbound: the number, below 65536, under which the other side sends the message again until it is acknowledged; 0
    if it has none."""
    at_most_once: bool = False
    """Inbound: true if the other side does not keep the message until it is acknowledged. No other reader is given what
    one was given."""


class Metadata(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Optional fields that come with a message. Each protocol documents how it maps them.

    Carried only by a channel that sets room aside for it: see `ChannelDescriptor.max_metadata`.
    """

    content_type: str = ""
    response_topic: str = ""
    """The topic on which an answer is expected."""
    message_expiry: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | None = None
    """Seconds after which the message is worth nothing; `None` for never."""
    user_properties: tuple[tuple[str, str], ...] = ()
    """Names and values, in order; a name may come more than once."""


def with_properties(metadata: Metadata, names: Container[str], properties: Iterable[tuple[str, str]]) -> Metadata:
    """Return the metadata with these user properties instead of all that it has of these names."""
    others = (pair for pair in metadata.user_properties if pair[0] not in names)
    return Metadata(metadata.content_type, metadata.response_topic, metadata.message_expiry, (*others, *properties))


class Received(msgspec.Struct, Generic[T], frozen=True):
    """An inbound message: its value, its header, the concrete topic it was published on, and its metadata if any."""

    value: T
    header: Header
    topic: str
    metadata: Metadata | None = None
    delivery_count: int = 1
    """The number of times that the app was given the message, this time included, as far as is known."""

    @property
    def redelivered(self) -> bool:
        """True if the app may have been given the message before: by this reader, or by one before it that was killed
        before it was done with the message."""
        return self.delivery_count > 1 or self.header.redelivered

    @property
    def retained(self) -> bool:
        """True if the other side had kept the message for whoever subscribes, so that it may be old."""
        return self.header.retained


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A message as it lies in shared memory: encoded, with its header, its concrete topic, and its metadata if any."""

    payload: bytes
    header: Header
    topic: str
    metadata: Metadata | None = None
