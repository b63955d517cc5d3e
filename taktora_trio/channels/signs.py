"""What a reply says about itself, in user properties, so that its payload is the app's alone.

A final reply says nothing, so that a requester of any other kind takes it as it is.
"""

from __future__ import annotations

from typing import TypeAlias

from taktora_trio.channels.message import Metadata
from taktora_trio.escaping import escaped

__all__ = [
    "FAILURE",
    "INTERIM",
    "Properties",
    "failure",
    "interim",
    "interim_number",
    "reason_of_failure",
    "seconds_left",
]

INTERIM = "taktora-interim"
"""The name of the property that an interim reply has; its value counts them from 1."""
FAILURE = "taktora-failure"
"""The name of the property that a failure has; its value is the reason, in one line."""
_LONGEST = 500  # characters of a reason
_SPACE = 128  # bytes of a reply's metadata that are for all but the reason

Properties: TypeAlias = tuple[tuple[str, str], ...]


def interim(number: int) -> Properties:
    return ((INTERIM, str(number)),)


def interim_number(metadata: Metadata | None) -> int:
    """Return the number of an interim reply, from 1; 0 if it is the last."""
    text = _value(metadata, INTERIM)
    return int(text) if text is not None and len(text) < 10 and text.isascii() and text.isdecimal() else 0


def failure(reason: str, max_metadata: int) -> Properties:
    """Return the sign of a failure; the reason is cut off where there is no room for it."""
    shown = escaped(reason, _LONGEST).encode()[: max(0, max_metadata - _SPACE)]
    return ((FAILURE, shown.decode(errors="ignore")),)


def reason_of_failure(metadata: Metadata | None) -> str | None:
    """Return why the request has failed; `None` if it has not."""
    text = _value(metadata, FAILURE)
    return None if text is None else escaped(text, _LONGEST)


def seconds_left(boottime_ns: int, metadata: Metadata | None, now_ns: int) -> float | None:
    """Return the rest of the life of a message that has come, 0 or less if it is over; `None` if it has no end."""
    if metadata is None or metadata.message_expiry is None:
        return None
    return metadata.message_expiry - max(0, now_ns - boottime_ns) / 1e9


def _value(metadata: Metadata | None, name: str) -> str | None:
    if metadata is not None:
        for key, value in metadata.user_properties:
            if key == name:
                return value
    return None
