"""MQTT's routing: the topic, QoS and retain flag of a channel."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Literal, TypeVar

import attrs

from taktora_trio.channels import Metadata, Routing
from taktora_trio.channels.templates import Template
from taktora_trio.checks import flag
from taktora_trio.connectors.connection import Guarantee
from taktora_trio.connectors.mqtt.topics import (
    TEMPLATES,
    check_filter,
    check_text,
    check_topic,
    covers,
    is_pattern,
    split_share,
)
from taktora_trio.errors import ConfigError, MessageError

__all__ = ["MqttRouting", "any_client"]

T = TypeVar("T")


def _check_qos(instance: Any, attribute: attrs.Attribute[int], value: object) -> None:
    if value not in (0, 1, 2) or isinstance(value, bool):
        raise ConfigError(f"QoS of {instance.topic!r} is {value!r}; it must be 0, 1 or 2")


_GUARANTEES: tuple[Guarantee, ...] = ("at most once", "at least once", "exactly once")
_CLIENT_ID = "{client_id}"  # stands for a level that the gateway fills in
_SHORT = 256  # characters of a topic that is remembered: it may have 65,535 bytes


@lru_cache(maxsize=1024)  # 0.3 us instead of 10, in both halves, where the same topics come again
def _check_topic_of(topic_filter: str, topic: str) -> None:
    check_topic(topic)
    if not covers(topic_filter, topic):
        raise ConfigError(f"topic {topic!r} is none of {topic_filter!r}, which the channel is declared for")


def any_client(address: str) -> str:
    """Return an address with `+` where it has a level that the gateway fills in."""
    return f"{address.removesuffix(_CLIENT_ID)}+" if address.endswith(f"/{_CLIENT_ID}") else address


def _as_level(client_id: str) -> str:
    for sign in "%/+#{}":  # the one that the others are written with comes first
        client_id = client_id.replace(sign, f"%{ord(sign):02X}")
    return client_id


@attrs.frozen
class MqttRouting(Routing):
    """A topic, a template of topics (`plant/{unit}/setpoint`), or a topic filter with `+` and `#`.

    A field in braces is one of the message: an outbound message fills it in, an inbound one has it from its topic. An
    outbound channel on a filter goes where each message says, by `send(..., topic=)`. An inbound one may share its
    subscription with other clients: `$share/GROUP/FILTER`.

    `Metadata` and correlation ids are PUBLISH properties of MQTT 5 (section 3.3.2.3): content type, response topic,
    message expiry interval, user properties, correlation data. A retained message is one of section 3.3.1.3.
    """

    max_payload: ClassVar[int | None] = 268_435_455
    """The largest remaining length of a packet (section 2.2.3). Topic and properties count in it, too: what is then too
    large is refused when it is published."""

    topic: str
    qos: Literal[0, 1, 2] = attrs.field(default=0, validator=_check_qos)
    """0 at most once, 1 at least once, 2 exactly once (MQTT 3.1.1, section 4.3)."""
    retain: bool = False
    """Outbound only: the broker keeps the last message for later subscribers (section 3.3.1.3)."""
    per_client: bool = attrs.field(default=False, kw_only=True, validator=flag)
    """Inbound only: the topic has one level more, which the gateway fills in: its client id. So each deployment has a
    topic of its own, such as for replies. A `Metadata.response_topic` that is this routing's `address` is filled in,
    too. In that level `/` is written as `%2F`, and `+`, `#`, `{`, `}` and `%` in the same way."""

    @property
    def address(self) -> str:
        return f"{self.topic}/{_CLIENT_ID}" if self.per_client else self._template.pattern

    @property
    def guarantee(self) -> Guarantee:
        """How often a message arrives, by its QoS."""
        return _GUARANTEES[self.qos]

    @property
    def is_shared(self) -> bool:
        """True if an inbound channel shares its subscription with other clients, each of which gets a part."""
        return bool(split_share(self.topic)[0])

    @property
    def subscription(self) -> str:
        """The filter that an inbound channel subscribes to: `address`, with the group if it is shared."""
        group, _ = split_share(self.topic)
        return f"$share/{group}/{self.address}" if group else self.address

    @property
    def is_pattern(self) -> bool:
        return is_pattern(self.address)

    def check(self, direction: Literal["out", "in"]) -> None:
        check_filter(self.topic)
        if self.per_client and (direction == "out" or self._template.fields or is_pattern(self.topic)):
            raise ConfigError(f"topic {self.topic!r}: per_client is for an inbound channel of one topic")
        if direction == "in":
            if self.retain:
                raise ConfigError(f"topic filter {self.topic!r}: retain is for outbound channels")
            return
        if split_share(self.topic)[0]:
            raise ConfigError(f"topic {self.topic!r}: a shared subscription is for inbound channels")
        if self._template.fields and is_pattern(self.topic):
            raise ConfigError(
                f"topic {self.topic!r}: fields and wildcards don't go together on an outbound channel: name a field"
                " for each level, or have each message name its topic, by send(..., topic=) and no fields"
            )

    def topic_of(self, message_type: type[T]) -> Callable[[T], str] | None:
        return self._template.filler(message_type) if self._template.fields else None

    def fields_of(self, message_type: type) -> Callable[[str], dict[str, object]] | None:
        return self._template.parser(message_type) if self._template.fields else None

    def check_topic(self, topic: str) -> None:
        if not self._topics:
            super().check_topic(topic)
        try:
            if len(topic) <= _SHORT:
                _check_topic_of(self._topics, topic)
            else:
                _check_topic_of.__wrapped__(self._topics, topic)
        except ConfigError as exc:
            raise MessageError(str(exc)) from None

    def check_metadata(self, metadata: Metadata) -> None:
        """Raise `MessageError` for metadata that can't be PUBLISH properties of MQTT 5 (section 3.3.2.3)."""
        try:
            if metadata.response_topic:
                check_topic(metadata.response_topic)
            check_text("content type", metadata.content_type)
            for name, value in metadata.user_properties:
                check_text("the name of a user property", name)
                check_text(f"user property {name!r}", value)
        except ConfigError as exc:
            raise MessageError(str(exc)) from None

    # Request and response (MQTT 5, section 4.10)

    def replies(self) -> MqttRouting:
        """Return the routing of replies to requests of this one: of the same QoS, one level below its topic."""
        if self.retain:
            raise ConfigError(f"topic {self.topic!r}: a retained request would come at each subscription: leave it out")
        if split_share(self.topic)[0]:
            raise ConfigError(f"topic {self.topic!r}: name the topic alone here, and the group by share=...")
        if self.is_pattern:
            raise ConfigError(
                f"topic {self.topic!r} is a pattern, so the replies' topic does not follow from it: give one, by"
                " replies=MqttRouting(...)"
            )
        return MqttRouting(f"{self.topic}/replies", qos=self.qos)

    def of_this_client(self) -> MqttRouting:
        return attrs.evolve(self, per_client=True)

    def of_any_client(self) -> MqttRouting:
        return self if self.is_pattern else attrs.evolve(self, topic=f"{self.topic}/+")

    def shared(self, group: str) -> MqttRouting:
        return attrs.evolve(self, topic=f"$share/{group}/{self.topic}")

    def for_client(self, client_id: str) -> MqttRouting:
        """Return the routing with the client id filled in, where it has a level for it."""
        if not self.per_client:
            return self
        return attrs.evolve(self, topic=f"{self.topic}/{_as_level(client_id)}", per_client=False)

    @cached_property
    def _topics(self) -> str:
        """`address` if it is a pattern, and else empty."""
        return self.address if self.is_pattern else ""

    @cached_property
    def _template(self) -> Template:
        return TEMPLATES.parse(split_share(self.topic)[1])
