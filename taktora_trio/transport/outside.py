"""What a third process may know of a domain that runs: its connectors, their channels and sizes, their counters.

The file of cursors of each connector says it all, as the halves have agreed on it. It is read, and mapped for reading
alone: who looks on takes no role, opens no port and can change nothing.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
from pathlib import Path
from typing import cast

import msgspec

from taktora_trio.errors import TransportError
from taktora_trio.transport.cursor import MAGIC, TEXT_AT, cursors_at, cursors_size
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.spec import COUNTERS_BYTES, ChannelSpec, Direction, TrunkSpec

__all__ = ["Onlooker", "codec_of", "look_at"]

# `connectors.plan.channel_spec` writes it. The name of a codec is its author's, and may have anything in it.
_DESCRIPTION = re.compile(
    r"codec (?P<codec>.*), max_payload (?P<max_payload>\d{1,10}) bytes, topic (?P<topic>\d{1,5}) bytes,"
    r" metadata (?P<metadata>\d{1,6}) bytes, window (?P<window>\d{1,10})",
    re.DOTALL,
)
_FILE = re.compile(r"taktora\.connector\.[\w-]+")
_CHANNEL = re.compile(r"taktora\.connector\.[\w-]+\.[\w-]+\.(?P<direction>out|in)")
_MOST_TEXT = 2**26


class Onlooker:
    """The counters of one connector, to be looked at. `close` ends it."""

    def __init__(self, path: Path) -> None:
        """Raises `TransportError` for what is no file of cursors of this version."""
        self.path = path
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self.spec = _spec(fd, path)
                self._memory = mmap.mmap(fd, cursors_size(self.spec), prot=mmap.PROT_READ)
            finally:
                os.close(fd)
        except OSError as exc:
            raise TransportError(f"cannot read {path}: {exc.strerror}") from exc
        self._whole = memoryview(self._memory)
        self.head = self._whole[:TEXT_AT].cast("Q")
        """The head of the file, in words: see `CursorFile`."""
        self._places = cursors_at(self.spec)

    def counters(self, name: str) -> memoryview:
        """Return the counters of this channel: see `Cursor`. Anything can be read there."""
        at = self._places[name]
        return self._whole[at : at + COUNTERS_BYTES].cast("Q")

    def close(self) -> None:
        """Let go of the memory, as soon as nobody has a view of it any more."""
        with contextlib.suppress(BufferError):
            self.head.release()
            self._whole.release()
            self._memory.close()


def look_at(domain: Domain) -> list[Onlooker]:
    """Return the counters of each connector of a domain, by name. Raises `TransportError` if it has no owner.

    A file that can't be read is an error, too; one that is gone meanwhile is not.
    """
    folder = domain.present().path / "cursors"
    try:
        names = sorted(name for name in os.listdir(folder) if _FILE.fullmatch(name))
    except FileNotFoundError:
        names = []
    found = []
    for name in names:
        try:
            found.append(Onlooker(folder / name))
        except TransportError:
            if (folder / name).exists():
                for other in found:
                    other.close()
                raise
    return found


def codec_of(spec: ChannelSpec) -> str:
    """Return the name of the codec of a channel that was looked at."""
    match = _DESCRIPTION.fullmatch(spec.description)
    return match["codec"] if match else ""


def _spec(fd: int, path: Path) -> TrunkSpec:
    """Return what the halves have agreed on. Raises `TransportError` for what can't be read, or can't be."""
    size = os.fstat(fd).st_size
    head = os.pread(fd, TEXT_AT, 0)
    length = int.from_bytes(head[8:16], "little")
    if len(head) < TEXT_AT or int.from_bytes(head[:8], "little") != MAGIC or length > min(size, _MOST_TEXT):
        raise TransportError(f"{path} is no file of cursors, or of another version: use the version that runs")
    try:
        described = msgspec.json.decode(os.pread(fd, length, TEXT_AT), type=dict[str, str])
    except msgspec.MsgspecError as exc:
        raise TransportError(f"{path} can't be read: {exc}") from exc
    spec = TrunkSpec(name=path.name, channels=tuple(_channel(path, *each) for each in described.items()))
    if cursors_size(spec) != size:
        raise TransportError(f"{path} is of another size than its channels need: use the version that runs")
    return spec


def _channel(path: Path, name: str, description: str) -> ChannelSpec:
    named, described = _CHANNEL.fullmatch(name), _DESCRIPTION.fullmatch(description)
    if named is None or described is None or not (window := int(described["window"])):
        raise TransportError(f"{path} describes channels as another version does: use the version that runs")
    return ChannelSpec(
        name=name,
        direction=cast("Direction", named["direction"]),
        max_payload=int(described["max_payload"]),
        topic_space=int(described["topic"]),
        metadata_space=int(described["metadata"]),
        window=window,
        description=description,
    )
