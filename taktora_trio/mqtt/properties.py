"""Between MQTT 5's correlation data, which has any length, and the envelope's correlation id, which has 32 bytes.

Pure: correlation data of at most 32 bytes that does not end in a zero byte is the correlation id, filled up with zero
bytes; all zero is none. Whatever else it is travels in the metadata. Both ways together change nothing.
"""

from __future__ import annotations

import msgspec

from taktora_trio.channel import CORRELATION_ID_LENGTH, NO_CORRELATION_ID, Metadata

__all__ = ["from_properties", "to_properties"]

_NOTHING = Metadata()


def from_properties(properties: Metadata | None) -> tuple[bytes, Metadata | None]:
    """The correlation id and the metadata of a message that came with these properties."""
    if properties is None:
        return NO_CORRELATION_ID, None
    data = properties.correlation_data
    if not data:
        return NO_CORRELATION_ID, properties
    if len(data) > CORRELATION_ID_LENGTH or data[-1] == 0:
        return NO_CORRELATION_ID, properties
    rest = msgspec.structs.replace(properties, correlation_data=b"")
    return data.ljust(CORRELATION_ID_LENGTH, b"\0"), None if rest == _NOTHING else rest


def to_properties(correlation_id: bytes, metadata: Metadata | None) -> Metadata | None:
    """The properties of a message with this correlation id and metadata; what the metadata says goes first."""
    if correlation_id == NO_CORRELATION_ID or (metadata is not None and metadata.correlation_data):
        return metadata
    return msgspec.structs.replace(metadata or _NOTHING, correlation_data=correlation_id.rstrip(b"\0"))
