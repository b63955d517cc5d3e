"""What of a recording is given to the app, and when; and what the app is to send."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from taktora_trio.channels import ChannelDescriptor, Metadata
from taktora_trio.connectors.base import Connector
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.recorder.reading import ReadMessage, RecordedChannel, look_into, messages_of
from taktora_trio.runners.deployment import Deployment

__all__ = ["Expected", "Given", "Plan", "make_plan"]


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A message that the app got."""

    at: float
    """Seconds from the first message of the recording."""
    connector: str
    topic: str
    payload: bytes
    metadata: Metadata | None
    correlation_id: bytes


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """A message that the app has sent."""

    at: float
    topic: str
    payload: bytes


class Plan(msgspec.Struct, frozen=True):
    given: list[Given]
    expected: dict[tuple[str, str], list[Expected]]
    """By connector and channel, for each outbound channel that was recorded."""
    seconds: float
    """From the first message of the recording to the last one."""
    came_back: int
    """So many messages the app had sent itself; they come back by themselves."""


def make_plan(path: Path, deployment: Deployment, channels: Collection[str] = ()) -> Plan:
    """Read a recording. `channels` are those that count, by name, or all.

    Raises `ConfigError` for a file that can't be read, and for one of another deployment.
    """
    summary = look_into(path)
    there: dict[tuple[str, str, str], tuple[Connector, ChannelDescriptor[Any]]] = {
        (connector.name, channel.direction, channel.name): (connector, channel)
        for connector in deployment.connectors
        for channel in connector.channels
    }
    recorded = [one for one in summary.channels if not channels or one.name in channels]
    _check(path, deployment, summary.channels, recorded, there, channels)
    messages = sorted(
        (message for message in messages_of(path) if message.channel in recorded),
        key=lambda message: message.recorded.boottime_ns,
    )
    if not messages:
        raise ConfigError(f"{escaped(str(path))} has no messages of these channels")
    begin = messages[0].recorded.boottime_ns
    expected: dict[tuple[str, str], list[Expected]] = {
        (one.connector, one.name): [] for one in recorded if one.direction == "out"
    }
    given = []
    own = Counter[tuple[str, str, bytes]]()
    came_back = 0
    for message in messages:
        connector, channel = there[_key(message.channel)]
        topic = message.recorded.topic or channel.routing.address
        content = message.recorded.content
        at = (message.recorded.boottime_ns - begin) / 1e9
        if channel.direction == "out":
            expected[connector.name, channel.name].append(Expected(at=at, topic=topic, payload=content))
            own[connector.name, topic, content] += 1
        elif own[connector.name, topic, content] > 0:
            own[connector.name, topic, content] -= 1
            came_back += 1
        elif _is_first(message, connector, channel, topic, recorded):
            given.append(
                Given(
                    at=at,
                    connector=connector.name,
                    topic=topic,
                    payload=content,
                    metadata=message.recorded.sent_metadata,
                    correlation_id=message.recorded.correlation_id,
                )
            )
    return Plan(given, expected, (messages[-1].recorded.boottime_ns - begin) / 1e9, came_back)


def _key(channel: RecordedChannel) -> tuple[str, str, str]:
    return channel.connector, channel.direction, channel.name


def _is_first(
    message: ReadMessage,
    connector: Connector,
    channel: ChannelDescriptor[Any],
    topic: str,
    recorded: Collection[RecordedChannel],
) -> bool:
    """True if no other recorded channel before this one got the same message: it was published once for all of them."""
    names = {one.name for one in recorded if one.connector == connector.name and one.direction == "in"}
    for one in connector.channels:
        if one is channel:
            return True
        if one.direction == "in" and one.name in names and connector.overlap(one.routing.address, topic):
            return False
    return True


def _check(
    path: Path,
    deployment: Deployment,
    all_of_them: Collection[RecordedChannel],
    recorded: Collection[RecordedChannel],
    there: Collection[tuple[str, str, str]],
    channels: Collection[str],
) -> None:
    shown = escaped(str(path))
    for name in channels:
        if not any(one.name == name for one in all_of_them):
            names = ", ".join(sorted({escaped(one.name) for one in all_of_them}))
            raise ConfigError(f"{shown} has no channel {escaped(name)!r}: it has {names or 'none'}")
    for one in recorded:
        if _key(one) not in there:
            what = f"{one.direction}bound channel {escaped(one.connector)}.{escaped(one.name)}"
            raise ConfigError(
                f"{shown} has the {what}, which deployment {deployment.name!r} has not: name the deployment that was"
                " recorded, or the channels that are to count"
            )
