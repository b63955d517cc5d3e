"""DeadLetter: a message that the app could not be done with, and what is known of it."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from taktora_trio.channels import Metadata
from taktora_trio.errors import ConfigError, StoreError
from taktora_trio.escaping import escaped

__all__ = ["APPLICATION", "DEAD_LETTERS", "VERSION", "DeadLetter", "check_dead_letters", "refuse_another"]

DEAD_LETTERS = "dead-letters.sqlite3"
"""The file's name in the folder of a deployment."""
APPLICATION, VERSION = 0x74_6B_64_6C, 1
"""What the file says that it is, in its first bytes."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that the app could not be done with."""

    connector: str
    channel: str
    topic: str
    """The concrete topic, as the other side has sent it."""
    payload: bytes
    reason: str
    """Why it was given up."""
    deliveries: int
    """The number of times that the app was given it."""
    metadata: Metadata | None = None
    correlation_id: bytes = b""
    retained: bool = False
    at: float = msgspec.field(default_factory=time.time)
    """Unix time in seconds."""
    number: int = 0
    """Its number in the file, by which commands know it; 0 for one that is not there yet."""
    send_asked: float | None = None
    """Unix time in seconds at which somebody asked to send it to the app again; `None` if nobody has."""
    redelivered: bool = False
    """True if the other side has sent it more than once. A letter of the same content is then taken for the same, put
    here by a gateway that was killed before it had acknowledged the message."""


def check_dead_letters(folder: Path) -> None:
    """Raise `ConfigError` for a file of another program, or of a newer version, by its first bytes alone.

    A file that is missing, damaged or can't be read passes: that may have changed when it is needed.
    """
    path = folder / DEAD_LETTERS
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError:
        return
    if len(header) == 100 and header.startswith(b"SQLite format 3\0"):  # https://sqlite.org/fileformat.html
        version, application = (int.from_bytes(header[at : at + 4], "big") for at in (60, 68))
        try:
            refuse_another(path, application, version)
        except StoreError as exc:
            raise ConfigError(str(exc)) from None


def refuse_another(path: Path, application: int, version: int) -> None:
    """Raise `StoreError` unless the file says that it is ours, and that its format is known here."""
    shown = escaped(str(path), 400)
    if application != APPLICATION:
        raise StoreError(f"{shown} was made by another program: move it away")
    if version > VERSION:
        raise StoreError(
            f"{shown} was made by a newer version of taktora-trio (format {version}, and {VERSION} is known here):"
            " install that, or move the file away"
        )
