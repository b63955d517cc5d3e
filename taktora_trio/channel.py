"""Channels as they are declared: what travels, which way, by which routing, and in how much shared memory."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Literal, TypeVar

import attrs
import msgspec

from taktora_trio.errors import ConfigError

__all__ = ["ChannelDescriptor", "Header", "Inbound", "Outbound", "Received", "Routing", "check_name"]

T = TypeVar("T")

CORRELATION_ID_LENGTH = 32
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


class Header(msgspec.Struct, frozen=True, gc=False):
    """What the envelope says about a message."""

    sequence_number: int
    """Counts the channel's messages from 1 since its writer was opened."""
    timestamp_ns: int
    """When it was sent, in nanoseconds since the unix epoch."""
    correlation_id: bytes = b"\0" * CORRELATION_ID_LENGTH
    """32 bytes that the framework carries and never reads."""


class Received(msgspec.Struct, Generic[T], frozen=True):
    """An inbound message: its value, its header, and the concrete topic it was published on."""

    value: T
    header: Header
    topic: str


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
    max_topic: int = attrs.field(default=512, kw_only=True, validator=_positive)
    """The longest concrete topic in UTF-8 bytes; set aside only where the routing is a pattern."""

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
