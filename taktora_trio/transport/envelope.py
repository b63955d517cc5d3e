"""The wire form in shared memory: a fixed header, the payload, then the concrete topic.

Little-endian, C layout, 56 bytes: sequence_number u64, timestamp_ns u64, payload_length u32, topic_length u32,
correlation_id 32 bytes. The peer may be a crashed or foreign program, so no length in it is followed unchecked.
"""

from __future__ import annotations

import ctypes
import functools
from struct import Struct

from taktora_trio.channel import CORRELATION_ID_LENGTH, Header
from taktora_trio.errors import ConfigError, TransportError

__all__ = ["HEADER", "NO_CORRELATION_ID", "check_correlation_id", "envelope_size", "envelope_type", "unpack"]

HEADER = Struct("<QQII32s")
assert HEADER.size == 56
NO_CORRELATION_ID = b"\0" * CORRELATION_ID_LENGTH


def envelope_size(max_payload: int, topic_space: int) -> int:
    """Bytes of the largest envelope, rounded up to the 8 that the header's alignment needs."""
    return -(-(HEADER.size + max_payload + topic_space) // 8) * 8


@functools.cache
def envelope_type(size: int) -> type[ctypes.Structure]:
    """The type under which iceoryx2 knows an envelope of `size` bytes; it refuses a peer with another size."""

    class ConnectorEnvelope(ctypes.Structure):
        _fields_ = [("words", ctypes.c_uint64 * (size // 8))]

        @staticmethod
        def type_name() -> str:
            return f"taktora.ConnectorEnvelope.{size}"

    return ConnectorEnvelope


def check_correlation_id(value: bytes) -> bytes:
    """Pad to 32 bytes; a longer one is a mistake that must not be cut silently."""
    if len(value) > CORRELATION_ID_LENGTH:
        raise ConfigError(f"a correlation id has at most {CORRELATION_ID_LENGTH} bytes, this one has {len(value)}")
    return value.ljust(CORRELATION_ID_LENGTH, b"\0")


def unpack(buffer: memoryview, max_payload: int, topic_space: int) -> tuple[Header, memoryview, str]:
    """The header, a view of the payload, and the topic. Raises `TransportError` for lengths that can't be true."""
    sequence_number, timestamp_ns, payload_length, topic_length, correlation_id = HEADER.unpack_from(buffer)
    if payload_length > max_payload or topic_length > topic_space:
        raise TransportError(
            f"an envelope claims {payload_length} bytes of payload and {topic_length} of topic where at most"
            f" {max_payload} and {topic_space} fit; it was discarded: is another program writing to this service?"
        )
    end = HEADER.size + payload_length
    topic = ""
    if topic_length:
        try:
            topic = str(buffer[end : end + topic_length], "utf-8")
        except UnicodeDecodeError as exc:
            raise TransportError(f"an envelope's topic is not UTF-8; it was discarded: {exc}") from exc
    return Header(sequence_number, timestamp_ns, correlation_id), buffer[HEADER.size : end], topic
