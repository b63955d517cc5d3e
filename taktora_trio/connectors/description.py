"""What a connector says of its channels to those at the other side, in the terms of AsyncAPI 3."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from taktora_trio.channels.templates import Template

__all__ = ["AddressParameter", "ChannelDescription", "ServerDescription", "describe_address"]


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


def describe_address(template: Template, *, within: str = "") -> tuple[str, Mapping[str, AddressParameter]]:
    """Return the address with a name in braces for each field and wildcard, and what these are.

    `within` is what a level has that is a pattern by itself, where the protocol has such levels.
    """
    syntax = template.syntax
    levels = list(template.levels)
    fields = {index % len(levels): name for index, name in template.fields}
    taken = set(fields.values())
    parameters: dict[str, AddressParameter] = {}
    for index, level in enumerate(levels):
        if index in fields:
            name = fields[index]
            parameters[name] = AddressParameter(f"The field `{name}` of the message.", name)
        elif level == syntax.several:
            name = _free("rest", taken)
            parameters[name] = AddressParameter(
                f"Any number of {syntax.level}s of the {syntax.topic}, or none.", is_many=True
            )
        elif level == syntax.one or (within and within in level):
            name = _free(f"{syntax.level}{index + 1}", taken)
            which = "" if level == syntax.one else f" that matches `{level}`"
            parameters[name] = AddressParameter(f"Any one {syntax.level} of the {syntax.topic}{which}.")
        else:
            continue
        levels[index] = f"{{{name}}}"
    return "/".join(levels), parameters


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
