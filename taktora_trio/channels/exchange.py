"""Exchange: requests and their replies, declared once for both sides."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Generic, TypeVar

import attrs

from taktora_trio.channels.descriptor import ChannelDescriptor, Inbound, Outbound, check_name
from taktora_trio.channels.routing import Routing
from taktora_trio.checks import instance_of, optional, whole_number
from taktora_trio.errors import ConfigError

__all__ = ["Exchange", "reply_channel"]

Q = TypeVar("Q")
A = TypeVar("A")

_LONGEST_NAME = 50  # with what is added to it, a channel's
# What is added for the channels of requests, and of their replies: the requester's, and the responder's.
_ASKS, _HEARS = "-request", "-reply"
_LISTENS, _ANSWERS = "-requests", "-replies"


def _name(instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    check_name("exchange", value)
    if len(str(value)) > _LONGEST_NAME:
        raise ConfigError(f"exchange name {value!r}: use at most {_LONGEST_NAME} characters")


def _share(instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str):
        raise ConfigError(f"exchange {getattr(instance, 'name', '')!r}: share is {value!r}; it must be a group's name")


@attrs.frozen
class Exchange(Generic[Q, A]):
    """Requests of one type, and their replies of another. Raises `ConfigError` for what can't work.

        ADD = Exchange("add", Numbers, int, routing)

    The connector of a requester has two channels for it, `[*ADD.for_requester, OTHER_CHANNEL]`, and that of a responder
    two others, `ADD.for_responder`. One connector may have all four. The app then asks by `host.open_requester(ADD)`,
    and answers by `host.serve(ADD, handler)`.

    Each deployment gets its replies by a topic of its own. A reply is known by its correlation id.
    """

    name: str = attrs.field(validator=_name)
    request_type: type[Q]
    reply_type: type[A]
    routing: Routing
    """Where requests go."""
    replies: Routing | None = attrs.field(default=None, kw_only=True, validator=optional(instance_of(Routing)))
    """Where replies go: by default one level below the requests. Each deployment has one level more for itself."""
    share: str = attrs.field(default="", kw_only=True, validator=_share)
    """Responders of the same group divide the requests among themselves; empty for a responder that gets all."""
    max_request: int = attrs.field(default=4096, kw_only=True, validator=whole_number(1))
    """The largest encoded request, in bytes."""
    max_reply: int = attrs.field(default=4096, kw_only=True, validator=whole_number(1))
    """The largest encoded reply, in bytes."""
    max_metadata: int = attrs.field(default=1024, kw_only=True, validator=whole_number(256, 65_535))
    """The largest metadata of either, in bytes: the response topic, and the reason of a failure, are in it."""
    window: int = attrs.field(default=64, kw_only=True, validator=whole_number(1))
    """The number of requests, and of replies, that may wait in shared memory. A request takes its place until it and
    all before it are answered."""

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.routing, Routing):
            raise ConfigError(
                f"exchange {self.name!r}: its routing is {self.routing!r}; write Exchange(name, request_type,"
                " reply_type, routing), with the routing class of its protocol"
            )
        try:
            _ = self._replies_to
            _ = self.for_responder
            if self.replies is None or not self.replies.is_pattern:  # one that answers clients of other kinds alone
                _ = self.for_requester
        except ConfigError as exc:
            raise ConfigError(f"exchange {self.name!r}: {exc}") from None

    @cached_property
    def for_requester(self) -> tuple[Outbound[Q], Inbound[A]]:
        """The channels that the connector of a requester has: for requests, and for replies."""
        request = Outbound(f"{self.name}{_ASKS}", self.request_type, self.routing, **self._requests)
        reply = Inbound(
            f"{self.name}{_HEARS}",
            self.reply_type,
            self._replies_to.of_this_client(),
            acknowledge="on-arrival",  # who waits for it is in the memory of the same app
            **self._of_replies,
        )
        return request, reply

    @cached_property
    def for_responder(self) -> tuple[Inbound[Q], Outbound[A]]:
        """The channels that the connector of a responder has: for requests, and for replies."""
        routing = self.routing.shared(self.share) if self.share else self.routing
        requests = Inbound(f"{self.name}{_LISTENS}", self.request_type, routing, **self._requests)
        to_any = self._replies_to.of_any_client()
        return requests, Outbound(f"{self.name}{_ANSWERS}", self.reply_type, to_any, **self._of_replies)

    @property
    def _replies_to(self) -> Routing:
        return self.routing.replies() if self.replies is None else self.replies

    @property
    def _requests(self) -> dict[str, Any]:
        return {"max_payload": self.max_request, **self._of_both}

    @property
    def _of_replies(self) -> dict[str, Any]:
        return {"max_payload": self.max_reply, **self._of_both}

    @property
    def _of_both(self) -> dict[str, Any]:
        return {"window": self.window, "max_metadata": self.max_metadata, "exchange": self.name}


def reply_channel(channel: ChannelDescriptor[Any]) -> str | None:
    """Return the name of the channel for the replies to requests on this one; `None` if it is not one of requests."""
    pairs = {_ASKS: _HEARS, _LISTENS: _ANSWERS}
    names = {f"{channel.exchange}{one}": f"{channel.exchange}{other}" for one, other in pairs.items()}
    return names.get(channel.name) if channel.exchange else None
