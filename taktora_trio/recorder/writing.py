"""Writes a recording. It blocks on the disk: call it in a worker thread, or in a process that does nothing else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from taktora_trio.errors import ConfigError, ConnectorError, check_library
from taktora_trio.escaping import escaped
from taktora_trio.recorder.layout import FORMAT, METADATA

if TYPE_CHECKING:
    from mcap.writer import Writer

__all__ = ["Recording", "open_recording"]

_CHUNK = 256 * 1024  # bytes: what is lost at most if the writer is killed


class Recording:
    """A file that is written. Use `open_recording`."""

    def __init__(self, writer: Writer, path: Path, file: _File) -> None:
        self.path = path
        self.messages = 0
        """The number of messages that were written."""
        self._writer = writer
        self._file = file
        self._channels: dict[str, int] = {}
        self._schemas: dict[bytes, int] = {}

    @property
    def size(self) -> int:
        """The bytes of the file; what is not in it yet is one chunk at most."""
        return self._file.tell()

    def add_channel(self, topic: str, schema: bytes, about: Mapping[str, str]) -> None:
        """Have a channel, whose messages are JSON of this schema."""
        if schema not in self._schemas:
            self._schemas[schema] = self._writer.register_schema(topic, "jsonschema", schema)
        self._channels[topic] = self._writer.register_channel(topic, "json", self._schemas[schema], dict(about))

    def write(self, topic: str, time_ns: int, content: bytes, number: int = 0) -> None:
        """Write a message of a channel that was added. Raises `ConnectorError` if it can't."""
        self._writer.add_message(self._channels[topic], time_ns, content, time_ns, number & 0xFFFFFFFF)
        self.messages += 1


class _File:
    """A file that has whole writes alone: what the disk has no room for is taken back."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd, self._path = fd, path
        self._at = 0

    def write(self, content: bytes) -> int:
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as exc:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._at)
            raise ConnectorError(f"cannot write {escaped(str(self._path))}: {exc.strerror}") from exc
        self._at += len(content)
        return len(content)

    def tell(self) -> int:
        return self._at


@contextlib.contextmanager
def open_recording(path: Path, about: Mapping[str, str]) -> Iterator[Recording]:
    """Write a new recording, for its owner alone. `about` says of what it is.

    At the end of the block it is whole, also where the block raises. Raises `ConfigError` if it can't be made, or is
    there, and `ConnectorError` if it can't be written: then it is cut.
    """
    check_library("a recording", "mcap", "mcap", "operate")
    from mcap.writer import Writer

    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(f"{escaped(str(path))} is there already: name another file, or remove it") from None
    except OSError as exc:
        raise ConfigError(f"cannot make {escaped(str(path))}: {exc.strerror}") from None
    try:
        file = _File(fd, path)
        writer = Writer(cast("BinaryIO", file), chunk_size=_CHUNK, enable_data_crcs=True)
        writer.start(profile="", library="taktora-trio")
        writer.add_metadata(METADATA, {"format": FORMAT, **about})
        is_cut = False
        try:
            yield Recording(writer, path, file)
        except ConnectorError:
            is_cut = True
            raise
        finally:
            with contextlib.suppress(ConnectorError) if is_cut else contextlib.nullcontext():
                writer.finish()  # type: ignore[no-untyped-call]
    finally:
        os.close(fd)
