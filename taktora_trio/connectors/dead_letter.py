"""DeadLetter: a message that the app could not be done with, and what is known of it."""

from __future__ import annotations

import time

import msgspec

from taktora_trio.channels import Metadata

__all__ = ["DEAD_LETTERS", "DeadLetter"]

DEAD_LETTERS = "dead-letters.sqlite3"
"""The file's name in the folder of a deployment."""


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
