"""Finds the channel that a test means; where there is none, the error says which were probably meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

from taktora_trio.channels import ChannelDescriptor, Inbound, Outbound
from taktora_trio.connectors.base import Connector
from taktora_trio.errors import CodecError, ConfigError
from taktora_trio.testing.journal import Sent

__all__ = ["Fits", "encode", "find_connector", "find_inbound", "find_outbound"]

Fits: TypeAlias = Callable[[Sent], bool]
_Found: TypeAlias = tuple[Connector, ChannelDescriptor[Any]]


def find_connector(connectors: Mapping[str, Connector], name: str | None) -> str:
    """Return the connector's name; `None` is for the first. Raises `ConfigError` if there is none of that name."""
    if name is None:
        return next(iter(connectors))
    if name not in connectors:
        raise ConfigError(f"there is no connector {name!r} in this deployment{_meant(name, connectors)}")
    return name


def find_outbound(connectors: Mapping[str, Connector], what: str | Outbound[Any], published: Iterable[Sent]) -> Fits:
    """Return what tells whether a message is one of those that are meant.

    That is an outbound channel, or its name, or a topic, or a pattern of topics. Raises `ConfigError` for one that the
    app can't publish to. `published` are the messages so far: what is among them can be published.
    """
    if isinstance(what, ChannelDescriptor):
        connector, channel = _declared(connectors, what, "out")
        return lambda sent: sent.connector == connector.name and sent.channel == channel.name
    _check_name(what, "an outbound channel, its name or a topic")
    named = [(one, channel) for one, channel in _channels(connectors, "out") if channel.name == what]
    if named:
        names = {(one.name, channel.name) for one, channel in named}
        return lambda sent: (sent.connector, sent.channel) in names

    def fits(sent: Sent) -> bool:
        return connectors[sent.connector].overlap(what, sent.topic)

    if any(one.overlap(what, channel.routing.address) for one, channel in _channels(connectors, "out")):
        return fits
    if any(fits(sent) for sent in published):
        return fits
    for _, channel in _channels(connectors, "in"):
        if what in (channel.name, channel.routing.address):
            raise ConfigError(f"{what!r} is what the app reads ({_shown(channel)}): publish to it, and expect another")
    raise ConfigError(
        f"the app publishes nothing on {what!r}: it has no such outbound channel{_which(connectors, what, 'out')}"
    )


def find_inbound(
    connectors: Mapping[str, Connector], what: str | Inbound[Any], value: object
) -> tuple[list[_Found], str]:
    """Return the inbound channels that a message goes to, and its topic.

    `what` is a topic, or an inbound channel whose topic is known: a single one, or one that the value fills in. Raises
    `ConfigError` for what no channel of the app's is for.
    """
    if isinstance(what, ChannelDescriptor):
        connector, channel = _declared(connectors, what, "in")
        return [(connector, channel)], _topic_for(channel, value)
    _check_name(what, "an inbound channel or a topic")
    found = [
        (one, channel) for one, channel in _channels(connectors, "in") if one.overlap(channel.routing.address, what)
    ]
    if found:
        return found, what
    for _, channel in _channels(connectors, "in"):
        if what == channel.name:
            raise ConfigError(f"{what!r} is a channel, where a topic belongs: publish to {channel.routing.address!r}")
    for one, channel in _channels(connectors, "out"):
        if one.overlap(channel.routing.address, what) or what == channel.name:
            raise ConfigError(f"{what!r} is what the app publishes ({_shown(channel)}): expect it, and publish another")
    raise ConfigError(f"the app has subscribed to nothing that {what!r} fits{_which(connectors, what, 'in')}")


def encode(found: Iterable[_Found], value: object) -> bytes:
    """Return a payload: the value as the channels that it is for have it, or bytes as they are.

    A channel that is itself of bytes has them as a value. Raises `CodecError` that says what the channels carry.
    """
    found = list(found)
    carries_bytes = any(channel.message_type is bytes for _, channel in found)
    if isinstance(value, bytes | bytearray | memoryview) and not carries_bytes:
        return bytes(value)
    errors = []
    for connector, channel in found:
        try:
            return bytes(connector.codec.encoder(channel.message_type)(value))
        except CodecError as exc:
            errors.append((channel, exc))
    channel, error = errors[0]
    raise CodecError(f"channel {channel.name!r} of {_type_name(channel)}: {error}") from error


def _check_name(what: object, wanted: str) -> None:
    if not isinstance(what, str):
        raise ConfigError(f"{what!r} is not {wanted}: give one of these")


def _declared(connectors: Mapping[str, Connector], channel: ChannelDescriptor[Any], direction: str) -> _Found:
    for one in connectors.values():
        if any(declared is channel for declared in one.channels):
            if channel.direction != direction:
                does = "publishes it, so expect it" if direction == "in" else "reads it, so publish to it"
                raise ConfigError(f"channel {channel.name!r} is an {type(channel).__name__}: the app {does}")
            return one, channel
    raise ConfigError(
        f"channel {channel.name!r} belongs to no connector of this deployment"
        f"{_which(connectors, channel.routing.address, direction)}"
    )


def _topic_for(channel: ChannelDescriptor[Any], value: object) -> str:
    routing = channel.routing
    if not routing.is_pattern:
        return routing.address
    fill = None if isinstance(value, bytes) else routing.topic_of(channel.message_type)
    if fill is None:
        raise ConfigError(
            f"channel {channel.name!r} is for many topics ({routing.address!r}): name one of them instead"
        )
    return fill(value)


def _channels(connectors: Mapping[str, Connector], direction: str) -> Iterator[_Found]:
    for connector in connectors.values():
        for channel in connector.channels:
            if channel.direction == direction:
                yield connector, channel


def _which(connectors: Mapping[str, Connector], what: str, direction: str) -> str:
    """Return the end of a message, with what was probably meant and all that there is."""
    channels = [channel for _, channel in _channels(connectors, direction)]
    if not channels:
        kind = "outbound" if direction == "out" else "inbound"
        return f"; it has no {kind} channels at all"
    names = [name for channel in channels for name in (channel.routing.address, channel.name)]
    close = get_close_matches(what, names, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{meant} it has {', '.join(map(_shown, channels))}"


def _meant(name: str, names: Iterable[str]) -> str:
    close = get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else f": name one of {', '.join(names)}"


def _shown(channel: ChannelDescriptor[Any]) -> str:
    return f"{channel.name!r} on {channel.routing.address!r}"


def _type_name(channel: ChannelDescriptor[Any]) -> str:
    kind = channel.message_type
    return getattr(kind, "__name__", repr(kind))
