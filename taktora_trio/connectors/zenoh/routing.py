"""Zenoh's routing: the key expression of a channel, and the quality of what is sent on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, Literal, TypeVar, cast
from urllib.parse import quote

import attrs

from taktora_trio.channels import ChannelDescriptor, Metadata, Routing
from taktora_trio.channels.exchange import reply_channel
from taktora_trio.channels.templates import Template
from taktora_trio.checks import flag, one_of, whole_number
from taktora_trio.connectors.connection import Guarantee
from taktora_trio.connectors.zenoh.keys import TEMPLATES, canonical, check_expression, check_key, includes, is_pattern
from taktora_trio.connectors.zenoh.session import CongestionControl, Priority, Quality, Reliability
from taktora_trio.errors import ConfigError, MessageError

__all__ = ["ZenohRouting", "any_client", "guarantee_of"]

T = TypeVar("T")

_CLIENT = "@client"  # stands for a chunk that the gateway fills in; no wildcard matches it
_SHORT = 256  # characters of a key that is remembered: it may have 65,535 bytes
_PRIORITIES = ("real-time", "interactive-high", "interactive-low", "data-high", "data", "data-low", "background")


def _as_chunk(name: str) -> str:
    """Return the name as one chunk of a key: what can't be in one is written as `%` and two hexadecimal digits."""
    return quote(name, safe=" !&'()+,:;=@[]^`{|}~") if not name.startswith("@") else f"%40{_as_chunk(name[1:])}"


def any_client(address: str) -> str:
    """Return the address of replies to one client as that of replies to any; any other address as it is."""
    return f"{address.removesuffix(_CLIENT)}*" if address.endswith(f"/{_CLIENT}") else address


@lru_cache(maxsize=1024)  # the same keys come again
def _check_key_of(expression: str, key: str) -> None:
    check_key(key)
    if not includes(expression, key):
        raise ConfigError(f"key {key!r} is none of {expression!r}, which the channel is declared for")


@attrs.frozen
class ZenohRouting(Routing):
    """A key (`plant/7/setpoint`), a template of keys (`plant/{unit}/setpoint`), or a key expression.

    In a key expression `*` stands for any one chunk, `**` for any number of them, and `$*` for any characters within
    one. A chunk that begins with `@` is matched by none of these. A field in braces is one of the message: an outbound
    message fills it in, an inbound one has it from its key. An outbound channel on a key expression goes where each
    message says, by `send(..., topic=)`.
    """

    key: str
    acknowledged: bool = attrs.field(default=False, kw_only=True, validator=flag)
    """If true, each message is a query, whose reply is the acknowledgement: it arrives at least once. If false, at most
    once."""
    latched: bool = attrs.field(default=False, kw_only=True, validator=flag)
    """If true, whoever subscribes later gets the last message of each key."""
    priority: Priority = attrs.field(default="data", kw_only=True, validator=one_of(*_PRIORITIES))
    """What is sent first where more waits than a link takes."""
    congestion_control: CongestionControl = attrs.field(
        default="block", kw_only=True, validator=one_of("block", "drop")
    )
    """What happens where a link takes no more: messages wait, or are dropped."""
    reliability: Reliability = attrs.field(
        default="reliable", kw_only=True, validator=one_of("reliable", "best-effort")
    )
    """Whether a link that can lose messages may do so."""
    express: bool = attrs.field(default=False, kw_only=True, validator=flag)
    """If true, a message does not wait for others to be sent with it."""
    recover: int = attrs.field(default=0, kw_only=True, validator=whole_number(0, 1_000_000))
    """Outbound: the number of messages of each key that are kept, in the gateway's memory, for subscribers that have
    missed some. Inbound: the number that publishers are asked for."""
    liveliness: bool = attrs.field(default=False, kw_only=True, validator=flag)
    """Inbound: the keys are those of liveliness tokens, whose messages are true (it is there) and false (it is gone).
    """

    others_only: bool = attrs.field(default=False, kw_only=True, validator=flag)
    """Inbound: what this connector sends itself does not come, nor does it acknowledge that. By default it does both,
    where a channel of it matches the key. Channels of one connector whose keys overlap say the same."""

    per_client: bool = attrs.field(default=False, kw_only=True, validator=flag)
    """Inbound: for the replies to this deployment's own requests, which come as replies to queries. A
    `Metadata.response_topic` that is this routing's `address` is completed by the gateway: its name is the last chunk.
    """

    @cached_property
    def address(self) -> str:
        if self.per_client:
            return f"{self.key}/{_CLIENT}"
        return canonical(self._template.pattern) if self._template.fields else self.key

    @property
    def is_pattern(self) -> bool:
        return is_pattern(self.address)

    @property
    def guarantee(self) -> Guarantee:
        """How often a message arrives."""
        return "at least once" if self.acknowledged else "at most once"

    @cached_property
    def quality(self) -> Quality:
        """The quality of service of what is sent."""
        return Quality(self.priority, self.congestion_control, self.reliability, self.express, self.recover)

    def check(self, direction: Literal["out", "in"]) -> None:
        check_expression(self.key)
        fields = [name for _, name in self._template.fields]
        if direction == "out" and fields and is_pattern(self.key):
            raise ConfigError(
                f"key expression {self.key!r}: fields and wildcards don't go together on an outbound channel: name a"
                " field for each chunk, or have each message name its key, by send(..., topic=) and no fields"
            )
        if direction == "out" and self.liveliness:
            raise ConfigError(f"key {self.key!r}: liveliness is for inbound channels; leave it out")
        if direction == "out" and self.others_only:
            raise ConfigError(f"key {self.key!r}: others_only is for inbound channels; leave it out")
        if direction == "in" and self.quality != Quality(recover=self.recover):
            raise ConfigError(
                f"key {self.key!r}: priority, congestion_control, reliability and express are the sender's: leave them"
                " out on an inbound channel"
            )
        for one, other, why in (
            ("acknowledged", "recover", "what is not acknowledged is sent again anyway"),
            ("liveliness", "acknowledged", "a token is no message that somebody has sent"),
            ("liveliness", "latched", "the tokens that there are come anyway"),
            ("liveliness", "recover", "a token is no message that somebody has sent"),
            ("liveliness", "others_only", "a token is no message that somebody has sent"),
        ):
            if getattr(self, one) and getattr(self, other):
                raise ConfigError(
                    f"key {self.key!r}: {one} and {other} don't go together: {why}; leave one of them out"
                )
        if self.acknowledged and (self.congestion_control == "drop" or self.reliability == "best-effort"):
            raise ConfigError(
                f"key {self.key!r}: acknowledged=True asks for each message to arrive, and"
                " congestion_control='drop' or reliability='best-effort' lets it be lost: leave one of them out"
            )
        if self.liveliness and fields:
            raise ConfigError(
                f"key {self.key!r}: a token's message is true or false, and has no fields: write '*' for each"
            )

    def topic_of(self, message_type: type[T]) -> Callable[[T], str] | None:
        return self._template.filler(message_type) if self._template.fields else None

    def fields_of(self, message_type: type) -> Callable[[str], dict[str, object]] | None:
        return self._template.parser(message_type) if self._template.fields else None

    def check_topic(self, topic: str) -> None:
        if not self.is_pattern:
            super().check_topic(topic)
        check = _check_key_of if len(topic) <= _SHORT else _check_key_of.__wrapped__
        try:
            check(self.address, topic)
        except ConfigError as exc:
            raise MessageError(str(exc)) from None

    def check_metadata(self, metadata: Metadata) -> None:
        """Raise `MessageError` for metadata that has no UTF-8."""
        texts = [metadata.content_type, metadata.response_topic]
        for name, value in metadata.user_properties:
            texts += name, value
        for text in texts:
            try:
                text.encode()
            except UnicodeEncodeError:
                raise MessageError(f"metadata {text[:80]!r}: it has a surrogate, which has no UTF-8") from None

    # Request and reply: a query

    def replies(self) -> ZenohRouting:
        """Return the routing of replies to requests of this one, one chunk below its key: for the names of those who
        ask, since a reply goes to where its query has come from."""
        if self.is_pattern:
            raise ConfigError(
                f"key {self.key!r} stands for several, so the key of the replies does not follow from it: give one, by"
                " replies=ZenohRouting(...)"
            )
        for name in ("acknowledged", "latched", "recover", "liveliness"):
            if getattr(self, name):
                raise ConfigError(f"key {self.key!r}: a request is a query, and has its reply: leave {name} out")
        return ZenohRouting(f"{self.key}/replies")

    def of_this_client(self) -> ZenohRouting:
        if self.is_pattern:
            raise ConfigError(f"key {self.key!r}: replies to this deployment need one key, without wildcards or fields")
        return attrs.evolve(self, per_client=True)

    def of_any_client(self) -> ZenohRouting:
        return self if self.is_pattern else attrs.evolve(self, key=f"{self.key}/*")

    def for_client(self, name: str) -> str:
        """Return the address with the name of the gateway filled in."""
        return f"{self.key}/{_as_chunk(name)}"

    @cached_property
    def _template(self) -> Template:
        return TEMPLATES.parse(self.key)


def guarantee_of(channel: ChannelDescriptor[Any]) -> Guarantee:
    """Return how often a message of this outbound channel arrives. A request is asked until it is answered."""
    if channel.exchange and reply_channel(channel) is not None:
        return "at least once"
    return cast(ZenohRouting, channel.routing).guarantee
