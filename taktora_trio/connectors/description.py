"""What a connector says of its channels to those at the other side, in the terms of AsyncAPI 3."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["AddressParameter", "ChannelDescription", "ServerDescription"]


@attrs.frozen
class AddressParameter:
    """A part of an address that may be another one in each message."""

    description: str
    field: str | None = None
    """The field of the message that stands there, if one does."""
    is_many: bool = False
    """True if it stands for any number of levels, or none; else for one."""


@attrs.frozen(kw_only=True)
class ChannelDescription:
    """A channel as its protocol has it."""

    topic: str
    """The topic as it was declared."""
    address: str
    """The same with a name in braces for each part that is another one in each message."""
    parameters: Mapping[str, AddressParameter] = attrs.field(factory=dict)
    """These parts, by the name in the braces."""
    properties: Mapping[str, object] = attrs.field(factory=dict)
    """More that a table of channels shows, by the heading of its column."""
    protocol: str = ""
    """The protocol's name in AsyncAPI; empty if it has no bindings there."""
    operation: Mapping[str, object] = attrs.field(factory=dict)
    """The protocol's bindings of the operation: how messages are sent or received."""
    message: Mapping[str, object] = attrs.field(factory=dict)
    """The protocol's bindings of the messages."""


@attrs.frozen(kw_only=True)
class ServerDescription:
    """A server that the channels of a connector are on. Without what is secret."""

    host: str
    """With the port, if it has one."""
    protocol: str
    protocol_version: str
    path: str = ""
    binding: str = ""
    """The name under which `bindings` stand."""
    bindings: Mapping[str, object] = attrs.field(factory=dict)
