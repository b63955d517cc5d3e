"""`echo`: the messages of a run as they pass by, decoded."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import trio
from trio_util import move_on_when

from taktora_trio.escaping import escaped
from taktora_trio.recorder.follower import Follower, Message, open_follower
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.this_process.outcome import complain, show
from taktora_trio.runners.this_process.until_stopped import until_stopped
from taktora_trio.transport.domain import Domain

__all__ = ["as_json", "as_line", "run_echo", "show_messages"]

_LONGEST = 2000  # characters of a value in a line for people


def run_echo(
    domain: Domain,
    names: Sequence[str],
    deployment: Deployment | None,
    *,
    count: int | None,
    seconds: float | None,
    json: bool,
) -> int:
    """Show messages until there were so many, for so many seconds, until a signal, or the end of the run.

    Raises `NoSuchDomain`, and `ConfigError` for a channel that there is not.
    """
    with open_follower(domain, names, deployment) as follower:

        async def work(stop: trio.Event) -> int:
            async with move_on_when(stop.wait):
                await show_messages(follower, count, as_json if json else as_line)
            return 0

        return trio.run(until_stopped, work, None, seconds)


async def show_messages(follower: Follower, count: int | None, written: Callable[[Message], str]) -> None:
    """Show what comes, until there were so many, or the run has ended."""
    left, lost = count, 0
    async with contextlib.aclosing(follower.messages()) as batches:
        async for messages in batches:
            shown = messages if left is None else messages[:left]
            show("\n".join(map(written, shown)))
            if follower.lost > lost:
                complain(f"{follower.lost - lost} messages were not seen: they came faster than they are read here")
                lost = follower.lost
            if left is not None and (left := left - len(shown)) <= 0:
                return
    complain("the run has ended")


def as_line(message: Message) -> str:
    """Return a message for people, in one line."""
    envelope, channel = message.envelope, message.channel
    at = datetime.fromtimestamp(envelope.header.timestamp_ns / 1e9, UTC)
    topic = f" {escaped(envelope.topic)}" if envelope.topic else ""
    error = f"  ({escaped(message.error, 300)})" if message.error else ""
    return f"{at:%H:%M:%S.%f}"[:-3] + f"  {escaped(channel.name)}{topic}  {_value(message.value)}{error}"


def as_json(message: Message) -> str:
    """Return all of a message as an object in one line; what is no value of JSON has its bytes in base64."""
    envelope, channel = message.envelope, message.channel
    header = envelope.header
    found: dict[str, Any] = {
        "time": datetime.fromtimestamp(header.timestamp_ns / 1e9, UTC).isoformat(timespec="microseconds"),
        "connector": channel.connector,
        "channel": channel.name,
        "direction": channel.direction,
        "number": header.sequence_number,
        "topic": envelope.topic or channel.address,
    }
    if isinstance(message.value, bytes):
        found["payload"] = base64.b64encode(message.value).decode()
    else:
        found["value"] = message.value
    if header.correlation_id:
        found["correlation_id"] = base64.b64encode(header.correlation_id).decode()
    if envelope.metadata is not None:
        found["metadata"] = {
            name: value for name, value in msgspec.to_builtins(envelope.metadata).items() if value not in (None, "", [])
        }
    if message.error:
        found["error"] = message.error
    return msgspec.json.encode(found).decode()


def _value(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = f"0x{value[: _LONGEST // 2].hex()}"
    else:
        text = msgspec.json.encode(value).decode()
    return escaped(text, _LONGEST)
