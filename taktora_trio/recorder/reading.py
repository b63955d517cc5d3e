"""Reads a recording, which anybody may have written, or may have cut."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from taktora_trio.errors import ConfigError, check_library
from taktora_trio.escaping import escaped
from taktora_trio.recorder.layout import FORMAT, METADATA, Recorded

__all__ = ["ReadMessage", "RecordedChannel", "Summary", "look_into", "messages_of"]

_LONGEST = 2**31
_decode = msgspec.json.Decoder(Recorded).decode


class RecordedChannel(msgspec.Struct, frozen=True):
    """A channel of the deployment, as the file says."""

    connector: str
    name: str
    direction: str
    about: Mapping[str, str]


class ReadMessage(msgspec.Struct, frozen=True):
    """A message of a channel of the deployment."""

    channel: RecordedChannel
    time_ns: int
    """Unix time, in nanoseconds."""
    recorded: Recorded


class Summary(msgspec.Struct, frozen=True):
    """What a recording holds."""

    about: Mapping[str, str]
    channels: tuple[RecordedChannel, ...]
    messages: int
    begin_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.begin_ns) / 1e9


def look_into(path: Path) -> Summary:
    """Read all of a recording, and return what it holds.

    Raises `ConfigError`, in one line, for a file that can't be read, is none, is cut, or is of another version.
    """
    check_library("a recording", "mcap", "mcap", "operate")
    from mcap.records import Channel, Message, Metadata

    about: Mapping[str, str] | None = None
    channels: dict[int, RecordedChannel | None] = {}
    messages, begin, end = 0, 2**64, 0
    for record in _records(path):
        if isinstance(record, Metadata) and record.name == METADATA:
            about = record.metadata
            if about.get("format") != FORMAT:
                raise ConfigError(
                    f"{escaped(str(path))} is a recording of format {escaped(str(about.get('format')))}, and this"
                    f" version reads format {FORMAT}: use the version that has written it"
                    f" (taktora-trio {escaped(str(about.get('version')))})"
                )
        elif isinstance(record, Channel):
            channels[record.id] = _channel(record)
        elif isinstance(record, Message) and channels.get(record.channel_id) is not None:
            messages, begin, end = messages + 1, min(begin, record.log_time), max(end, record.log_time)
    if about is None:
        raise ConfigError(f"{escaped(str(path))} is no recording of taktora-trio's: it has no record that says so")
    there = tuple(channel for channel in channels.values() if channel is not None)
    return Summary(about, there, messages, min(begin, end), end)


def messages_of(path: Path) -> Iterator[ReadMessage]:
    """Yield the messages of the deployment's channels, as they stand in the file. Raises as `look_into` does."""
    check_library("a recording", "mcap", "mcap", "operate")
    from mcap.records import Channel, Message

    channels: dict[int, RecordedChannel | None] = {}
    for record in _records(path):
        if isinstance(record, Channel):
            channels[record.id] = _channel(record)
        elif isinstance(record, Message) and (channel := channels.get(record.channel_id)) is not None:
            try:
                recorded = _decode(record.data)
            except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
                what = f"{channel.connector}.{channel.name}"
                raise ConfigError(f"{escaped(str(path))}: a message of {what} can't be read: {exc}") from None
            yield ReadMessage(channel, record.log_time, recorded)


def _channel(record: Any) -> RecordedChannel | None:
    about = record.metadata
    if not all(name in about for name in ("connector", "channel", "direction")):
        return None  # of the deployment itself, or somebody else's
    return RecordedChannel(about["connector"], about["channel"], about["direction"], about)


def _records(path: Path) -> Iterator[Any]:
    from mcap.exceptions import InvalidMagic
    from mcap.stream_reader import StreamReader

    shown = escaped(str(path))
    with contextlib.ExitStack() as stack:
        try:
            if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # a pipe might never end, or even open
                raise ConfigError(f"cannot read {shown}: it is no regular file, and a recording is read twice")
            file = stack.enter_context(path.open("rb"))
            size = path.stat().st_size
        except OSError as exc:
            raise ConfigError(f"cannot read {shown}: {exc.strerror}") from None
        begun = False
        try:
            for record in StreamReader(file, validate_crcs=True, record_size_limit=min(size, _LONGEST)).records:
                begun = True
                yield record
        except ConfigError:
            raise
        except InvalidMagic:
            what = "is cut off, or damaged at its end" if begun else "is no MCAP file"
            raise ConfigError(f"{shown} {what}") from None
        except OSError as exc:
            raise ConfigError(f"cannot read {shown}: {exc.strerror}") from None
        except Exception as exc:  # noqa: BLE001 - the library raises what comes of what it reads
            if not begun and size < 8:
                raise ConfigError(f"{shown} is no MCAP file") from None
            raise ConfigError(
                f"{shown} is cut off or damaged ({type(exc).__name__}): `mcap recover` saves what is whole of it"
            ) from None
