"""Writes a recording. It blocks on the disk: call it in a worker thread, or in a process that does nothing else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from taktora_trio.errors import ConfigError, ConnectorError, check_library
from taktora_trio.escaping import escaped
from taktora_trio.recorder.layout import FORMAT, METADATA

if TYPE_CHECKING:
    from mcap.writer import Writer

__all__ = ["Recording", "open_recording"]

_CHUNK = 256 * 1024  # bytes: what is lost at most if the writer is killed


class Recording:
    """A file that is written. Use `open_recording`."""

    def __init__(self, writer: Writer, path: Path, file: object) -> None:
        self.path = path
        self.messages = 0
        """The number of messages that were written."""
        self._writer = writer
        self._channels: dict[str, int] = {}
        self._schemas: dict[bytes, int] = {}
        self._fileno = file.fileno  # type: ignore[attr-defined]

    @property
    def size(self) -> int:
        """The bytes of the file; what is not in it yet is one chunk at most."""
        return os.fstat(self._fileno()).st_size

    def add_channel(self, topic: str, schema: bytes, about: Mapping[str, str]) -> None:
        """Have a channel, whose messages are JSON of this schema."""
        with self._told():
            if schema not in self._schemas:
                self._schemas[schema] = self._writer.register_schema(topic, "jsonschema", schema)
            self._channels[topic] = self._writer.register_channel(topic, "json", self._schemas[schema], dict(about))

    def write(self, topic: str, time_ns: int, content: bytes, number: int = 0) -> None:
        """Write a message of a channel that was added."""
        with self._told():
            self._writer.add_message(self._channels[topic], time_ns, content, time_ns, number & 0xFFFFFFFF)
        self.messages += 1

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise ConnectorError(f"cannot write {escaped(str(self.path))}: {exc.strerror}") from exc


@contextlib.contextmanager
def open_recording(path: Path, about: Mapping[str, str]) -> Iterator[Recording]:
    """Write a new recording, for its owner alone. `about` says of what it is.

    At the end of the block it is whole, also where the block raises, as far as the disk has room. Raises `ConfigError`
    if it can't be made, or is there, and `ConnectorError` if it can't be written.
    """
    check_library("a recording", "mcap", "mcap", "operate")
    from mcap.writer import Writer

    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(f"{escaped(str(path))} is there already: name another file, or remove it") from None
    except OSError as exc:
        raise ConfigError(f"cannot make {escaped(str(path))}: {exc.strerror}") from None
    with os.fdopen(fd, "wb") as file:
        writer = Writer(file, chunk_size=_CHUNK)
        recording = Recording(writer, path, file)
        with recording._told():
            writer.start(profile="", library="taktora-trio")
            writer.add_metadata(METADATA, {"format": FORMAT, **about})
        failed = False
        try:
            yield recording
        except ConnectorError:
            failed = True
            raise
        finally:
            with contextlib.suppress(OSError) if failed else recording._told():
                writer.finish()
                file.flush()


def encoded(value: object) -> bytes:
    """Return a plain value as it is written."""
    return msgspec.json.encode(value)
