"""Records the messages of a running deployment, as a follower sees them, until it is stopped or the run ends."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import trio
from trio_util import move_on_when

import taktora_trio
from taktora_trio.errors import ConfigError
from taktora_trio.recorder.follower import Channel, Follower, Message, open_follower
from taktora_trio.recorder.layout import recorded, topic_of
from taktora_trio.recorder.schemas import NO_VALUES, message_schema, schemas_of
from taktora_trio.recorder.writing import Recording, open_recording
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.options import check_seconds
from taktora_trio.runners.this_process.until_stopped import until_stopped
from taktora_trio.transport.domain import Domain

__all__ = ["Outcome", "Wanted", "add_channels", "record", "record_until", "write_messages"]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be recorded."""

    domain: Domain
    channels: Sequence[str] = ()
    """Their names; none stands for all."""
    deployment: Deployment | None = None
    """For the schemas of the messages, and for codecs of somebody's own."""
    path: Path | None = None
    seconds: float | None = None
    most_bytes: int | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What came of it."""

    path: Path
    messages: int
    channels: int
    lost: int
    why: str
    """Why it has ended."""


def record(wanted: Wanted) -> Outcome:
    """Record until SIGINT, SIGTERM or SIGHUP, for so many seconds or bytes, or until the run ends.

    Raises `NoSuchDomain`, `ConfigError` for what can't be, and `ConnectorError` if the file can't be written.
    """
    check_seconds(wanted.seconds)
    if wanted.most_bytes is not None and wanted.most_bytes < 1:
        raise ConfigError(f"--max-bytes {wanted.most_bytes}: give at least 1")
    with open_follower(wanted.domain, wanted.channels, wanted.deployment) as follower:
        done: list[Outcome] = []

        async def follow(stop: trio.Event) -> int:
            done.append(await _record(stop, follower, wanted))
            return 0

        trio.run(until_stopped, follow, None, wanted.seconds)
        return done[0]


async def _record(stop: trio.Event, follower: Follower, wanted: Wanted) -> Outcome:
    path = wanted.path or Path(f"{wanted.domain.name}-{datetime.now(UTC):%Y%m%dT%H%M%S}.mcap")
    about = {"kind": "record", "domain": wanted.domain.name, "version": taktora_trio.__version__}
    with open_recording(path, about) as recording:
        add_channels(recording, follower.channels, wanted.deployment)
        why = await record_until(stop, follower, recording, wanted.most_bytes)
    return Outcome(path, recording.messages, len(follower.channels), follower.lost, why)


async def record_until(
    stop: trio.Event, follower: Follower, recording: Recording, most_bytes: int | None = None
) -> str:
    """Write what is followed until `stop` is set, until the run ends, or until there are so many bytes. Say which."""
    why = "it was stopped"
    async with move_on_when(stop.wait):
        why = await _follow(follower, recording, most_bytes)
    await trio.to_thread.run_sync(write_messages, recording, follower.take())
    return why


def add_channels(recording: Recording, channels: Sequence[Channel], deployment: Deployment | None) -> None:
    """Have these channels in the file, with the schemas that are known."""
    schemas = {} if deployment is None else schemas_of(deployment.connectors)
    for channel in channels:
        topic = topic_of(channel.connector, channel.direction, channel.name)
        about = {
            "connector": channel.connector,
            "channel": channel.name,
            "direction": channel.direction,
            "address": channel.address,
            "codec": channel.codec,
        }
        recording.add_channel(topic, schemas.get(channel.followed.spec.name) or message_schema(NO_VALUES), about)


async def _follow(follower: Follower, recording: Recording, most_bytes: int | None) -> str:
    async with contextlib.aclosing(follower.messages()) as batches:
        async for messages in batches:
            with trio.CancelScope(shield=True):  # what was taken is written
                await trio.to_thread.run_sync(write_messages, recording, messages)
            if most_bytes is not None and recording.size >= most_bytes:
                return f"the file has {most_bytes} bytes"
    return "the run has ended"


def write_messages(recording: Recording, messages: Sequence[Message]) -> None:
    """Write messages. It blocks on the disk."""
    for message in messages:
        channel, header = message.channel, message.envelope.header
        content = recorded(message.envelope, channel.codec, message.value, message.error)
        topic = topic_of(channel.connector, channel.direction, channel.name)
        recording.write(topic, header.timestamp_ns, content, header.sequence_number)
