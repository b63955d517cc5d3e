"""Channels as they are declared: what travels, which way, by which routing, and in how much shared memory."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import attrs
import msgspec

from taktora_trio.errors import ConfigError

__all__ = [
    "ChannelDescriptor",
    "Envelope",
    "Header",
    "Inbound",
    "Metadata",
    "Outbound",
    "Received",
    "Routing",
    "check_name",
]

T = TypeVar("T")

_MAX_U16 = 65_535  # the largest length that an envelope has room to write down, and MQTT's limit too
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def check_name(kind: str, name: object) -> None:
    """Raise `ConfigError` unless `name` can be part of a service's name: 1 to 64 letters, digits, `-` and `_`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{kind} name {name!r}: use 1 to 64 letters, digits, '-' or '_', beginning with no sign")


class Routing(ABC):
    """Where a channel's messages go to or come from in the connector's protocol. Typed, one class a protocol."""

    @property
    @abstractmethod
    def address(self) -> str:
        """The topic, or the pattern of topics."""

    @property
    @abstractmethod
    def is_pattern(self) -> bool:
        """Whether `address` stands for many topics, so that each message must carry its own."""

    @abstractmethod
    def check(self, direction: Literal["out", "in"]) -> None:
        """Raise `ConfigError` if a channel of that direction can't use this routing."""

    def topic_of(self, message_type: type[T]) -> Callable[[T], str] | None:
        """What makes the concrete topic of an outbound message from its own fields; `None` if nothing does.

        Raises `ConfigError` for a type whose messages don't have them. What it returns raises `CodecError`.
        """
        return None

    def fields_of(self, message_type: type) -> Callable[[str], dict[str, object]] | None:
        """What reads fields of an inbound message from its concrete topic; `None` if there are none. As `topic_of`."""
        return None

    def check_topic(self, topic: str) -> None:
        """Raise `ConfigError` unless an outbound message can go to this concrete topic."""
        if not self.is_pattern:
            raise ConfigError(f"all messages of this channel go to {self.address!r}: leave topic={topic!r} out")

    def check_metadata(self, metadata: Metadata) -> None:  # noqa: B027 - a protocol may carry whatever it is
        """Raise `ConfigError` for what the protocol can't carry."""


class Header(msgspec.Struct, frozen=True, gc=False):
    """What the envelope says about a message."""

    sequence_number: int
    """Counts the channel's messages from 1 since its writer was opened."""
    timestamp_ns: int
    """When it was sent, in nanoseconds since the unix epoch: for people, by a clock that may be set at any time."""
    boottime_ns: int = 0
    """When it was sent by a clock that is never set: nanoseconds since the machine was started, with the time in which
    it was suspended (`CLOCK_BOOTTIME`, clock_gettime(2)). For durations: by the same clock now."""
    correlation_id: bytes = b""
    """What an answer is to bring back, as it was sent; empty for none. In MQTT 5 the correlation data of a PUBLISH."""
    retained: bool = False
    """Inbound: see `Received.retained`."""


class Metadata(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a protocol says about a message besides its payload; in MQTT 5 the PUBLISH properties (section 3.3.2.3).

    Carried only by a channel that sets room aside for it: see `ChannelDescriptor.max_metadata`.
    """

    content_type: str = ""
    response_topic: str = ""
    """Where an answer is expected."""
    message_expiry: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | None = None
    """Seconds after which the message is worth nothing; `None` for never."""
    user_properties: tuple[tuple[str, str], ...] = ()
    """In order; a name may come more than once."""


class Received(msgspec.Struct, Generic[T], frozen=True):
    """An inbound message: its value, its header, the concrete topic it was published on, and its metadata if any."""

    value: T
    header: Header
    topic: str
    metadata: Metadata | None = None

    @property
    def retained(self) -> bool:
        """Whether the broker had kept the message for whoever subscribes, so that it may be old (MQTT 5, section
        3.3.1.3)."""
        return self.header.retained


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A message as it lies in shared memory: encoded, with its header, its concrete topic, and its metadata if any."""

    payload: bytes
    header: Header
    topic: str
    metadata: Metadata | None = None


def _length(instance: Any, attribute: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_U16:
        raise ConfigError(
            f"channel {instance.name!r}: {attribute.name} is {value!r}; it must be a whole number from 0 to {_MAX_U16}"
        )


def _positive(instance: Any, attribute: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(
            f"channel {instance.name!r}: {attribute.name} is {value!r}; it must be a whole number of at least 1"
        )


@attrs.frozen
class ChannelDescriptor(Generic[T]):
    """One channel: an `Outbound` (app to broker) or an `Inbound` (broker to app). Raises `ConfigError`."""

    name: str
    message_type: type[T]
    routing: Routing
    max_payload: int = attrs.field(default=4096, kw_only=True, validator=_positive)
    """The largest encoded payload, in bytes. Shared memory is set aside for `window` of them."""
    window: int = attrs.field(default=64, kw_only=True, validator=_positive)
    """How many messages may wait in shared memory before the channel is full."""
    max_topic: int = attrs.field(default=512, kw_only=True, validator=[_positive, _length])
    """The longest concrete topic in UTF-8 bytes; set aside only where the routing is a pattern."""
    max_metadata: int = attrs.field(default=0, kw_only=True, validator=_length)
    """The largest `Metadata`, in bytes as MessagePack: its texts, and 1 to 5 bytes for each; and with it what a
    correlation id has beyond 42 bytes. With 0 the channel carries neither: sending some is a `PayloadOverflow`, and
    what an inbound message has is left out."""

    direction: ClassVar[Literal["out", "in"]] = "out"

    def __attrs_post_init__(self) -> None:
        check_name("channel", self.name)
        if type(self) is ChannelDescriptor:
            raise ConfigError(f"channel {self.name!r}: declare it as Outbound(...) or Inbound(...)")
        if not isinstance(self.routing, Routing):
            raise ConfigError(f"channel {self.name!r}: its routing is {self.routing!r}; use MqttRouting(...)")
        if self.max_payload > 268_435_455:
            raise ConfigError(f"channel {self.name!r}: max_payload is {self.max_payload}; MQTT ends at 268435455 bytes")
        try:
            self.routing.check(self.direction)
            fields = self.routing.topic_of if self.direction == "out" else self.routing.fields_of
            fields(self.message_type)
        except ConfigError as exc:
            raise ConfigError(f"channel {self.name!r}: {exc}") from None

    @property
    def topic_space(self) -> int:
        """Bytes set aside for the concrete topic in each message."""
        return self.max_topic if self.routing.is_pattern else 0


@attrs.frozen
class Outbound(ChannelDescriptor[T]):
    """A channel from the app to the broker; open it with `host.open_writer`."""

    direction = "out"


@attrs.frozen
class Inbound(ChannelDescriptor[T]):
    """A channel from the broker to the app; open it with `host.open_reader`."""

    direction = "in"
