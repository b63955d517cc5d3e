"""Channels as they are declared: what travels, which way, by which routing, and in how much shared memory."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Generic, Literal, TypeVar

import attrs

from taktora_trio.channels.routing import Routing
from taktora_trio.channels.store import Store
from taktora_trio.checks import one_of
from taktora_trio.errors import ConfigError

__all__ = ["ChannelDescriptor", "Inbound", "Outbound", "check_name"]

T = TypeVar("T")

_MAX_U16 = 65_535  # the largest topic and metadata that an envelope has room to write down,
_MAX_U32 = 4_294_967_295  # and the largest payload
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def check_name(kind: str, name: object) -> None:
    """Raise `ConfigError` unless `name` can be part of a service's name: 1 to 64 letters, digits, `-` and `_`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{kind} name {name!r}: use 1 to 64 letters, digits, '-' or '_', beginning with no sign")


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


def _priority(instance: Any, attribute: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"channel {instance.name!r}: priority is {value!r}; it must be a whole number")


def _store(instance: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and value != "never" and not isinstance(value, Store):
        raise ConfigError(f"channel {instance.name!r}: store is {value!r}; use Store(...), 'never' or None")


@attrs.frozen
class ChannelDescriptor(Generic[T]):
    """One channel: an `Outbound` (from the app) or an `Inbound` (to the app). Raises `ConfigError`."""

    name: str
    message_type: type[T]
    routing: Routing
    max_payload: int = attrs.field(default=4096, kw_only=True, validator=_positive)
    """The largest encoded payload, in bytes. Shared memory is set aside for `window` of them."""
    window: int = attrs.field(default=64, kw_only=True, validator=_positive)
    """The number of messages that may wait in shared memory before the channel is full."""
    max_topic: int = attrs.field(default=512, kw_only=True, validator=[_positive, _length])
    """The longest concrete topic in UTF-8 bytes; set aside only where the routing is a pattern."""
    max_metadata: int = attrs.field(default=0, kw_only=True, validator=_length)
    """The largest `Metadata`, in bytes as MessagePack: its texts, and 1 to 5 bytes for each; and with it what a
    correlation id has beyond 42 bytes. With 0 the channel carries neither: sending some is a `PayloadOverflow`, and
    what an inbound message has is left out."""

    exchange: str = attrs.field(default="", kw_only=True)
    """The name of the `Exchange` that it is a part of; empty for a channel that stands for itself."""

    direction: ClassVar[Literal["out", "in"]] = "out"

    def __attrs_post_init__(self) -> None:
        check_name("channel", self.name)
        if type(self) is ChannelDescriptor:
            raise ConfigError(f"channel {self.name!r}: declare it as Outbound(...) or Inbound(...)")
        if isinstance(self.message_type, Routing):
            write = f"{type(self).__name__}(name, type, routing)"
            raise ConfigError(f"channel {self.name!r}: its routing comes behind its message type: write {write}")
        if isinstance(self.routing, type) and issubclass(self.routing, Routing):
            raise ConfigError(f"channel {self.name!r}: its routing is a class: write {self.routing.__name__}(...)")
        if not isinstance(self.routing, Routing):
            raise ConfigError(
                f"channel {self.name!r}: its routing is {self.routing!r}; use the routing class of its protocol"
            )
        most, whose = self.routing.max_payload, type(self.routing).__name__
        if most is None:
            most, whose = _MAX_U32, "an envelope"
        if self.max_payload > most:
            raise ConfigError(
                f"channel {self.name!r}: max_payload is {self.max_payload}; {whose} takes {most} bytes at most"
            )
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
    """A channel from the app to the outside; open it with `host.open_writer`."""

    direction = "out"

    store: Store | Literal["never"] | None = attrs.field(default=None, kw_only=True, validator=_store)
    """How its messages are kept on disk; `None` for as the deployment says, `"never"` for not at all."""
    priority: int = attrs.field(default=0, kw_only=True, validator=_priority)
    """Among the channels of a connector that have a backlog on disk, those of a higher priority go first."""


@attrs.frozen
class Inbound(ChannelDescriptor[T]):
    """A channel from the outside to the app; open it with `host.open_reader`."""

    direction = "in"

    acknowledge: Literal["when-done", "on-arrival", "stored"] = attrs.field(
        default="when-done", kw_only=True, validator=one_of("when-done", "on-arrival", "stored")
    )
    """When the gateway acknowledges a message to the other side, which may forget it then.

    `"when-done"`: when the app is done with it (see `ChannelReader`). `"on-arrival"`: when it is in shared memory, for
    speed: what the app has not read is lost if that goes. `"stored"`: when the gateway has it on disk; the app gets it
    from there, and the deployment needs a store (`Deployment.store`)."""
    max_deliveries: int = attrs.field(default=5, kw_only=True, validator=_positive)
    """The number of times that the app is given a message that it does not get done with, before the message goes to
    the dead letters."""
