"""The wire form in shared memory: a fixed header, the payload, then the concrete topic, then the metadata.

Little-endian, C layout, 56 bytes: sequence_number u64, timestamp_ns u64, payload_length u32, topic_length u16,
metadata_length u16, correlation_id 32 bytes. The metadata is a MessagePack array, and absent where there is none. The
peer may be a crashed or foreign program, so no length in it is followed unchecked.
"""

from __future__ import annotations

import ctypes
import functools
from struct import Struct

import msgspec

from taktora_trio.channel import CORRELATION_ID_LENGTH, Header, Metadata
from taktora_trio.errors import CodecError, ConfigError, TransportError

__all__ = ["HEADER", "check_correlation_id", "envelope_size", "envelope_type", "pack_metadata", "unpack"]

HEADER = Struct("<QQIHH32s")
assert HEADER.size == 56
_encode_metadata = msgspec.msgpack.Encoder().encode
_decode_metadata = msgspec.msgpack.Decoder(Metadata).decode


def envelope_size(max_payload: int, topic_space: int, metadata_space: int = 0) -> int:
    """Bytes of the largest envelope, rounded up to the 8 that the header's alignment needs."""
    return -(-(HEADER.size + max_payload + topic_space + metadata_space) // 8) * 8


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


def pack_metadata(metadata: Metadata) -> bytes:
    """Raises `CodecError` for what the peer could not read: its fields are not checked when it is made."""
    try:
        packed = _encode_metadata(metadata)
        _decode_metadata(packed)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise CodecError(f"the metadata can't be encoded: {exc}") from exc
    return packed


def unpack(
    buffer: memoryview, max_payload: int, topic_space: int, metadata_space: int
) -> tuple[Header, memoryview, str, Metadata | None]:
    """The header, a view of the payload, topic and metadata. Raises `TransportError` for what can't be true."""
    number, timestamp_ns, payload_length, topic_length, metadata_length, correlation_id = HEADER.unpack_from(buffer)
    topic, metadata = "", None
    if payload_length > max_payload or topic_length or topic_space or metadata_length:  # else there is no more to it
        if payload_length > max_payload or topic_length > topic_space or metadata_length > metadata_space:
            raise TransportError(
                f"an envelope claims {payload_length} bytes of payload, {topic_length} of topic and {metadata_length}"
                f" of metadata where at most {max_payload}, {topic_space} and {metadata_space} fit; it was discarded:"
                " is another program writing to this service?"
            )
        start = HEADER.size + payload_length + topic_length
        topic = _unpack_topic(buffer[start - topic_length : start])
        if topic_space and not topic:
            raise TransportError("an envelope names no topic, where each must; it was discarded")
        if metadata_length:
            metadata = _unpack_metadata(buffer[start : start + metadata_length])
    payload = buffer[HEADER.size : HEADER.size + payload_length]
    return Header(number, timestamp_ns, correlation_id), payload, topic, metadata


def _unpack_topic(encoded: memoryview) -> str:
    try:
        return str(encoded, "utf-8")
    except UnicodeDecodeError as exc:
        raise TransportError(f"an envelope's topic is not UTF-8; it was discarded: {exc}") from exc


def _unpack_metadata(packed: memoryview) -> Metadata:
    try:
        return _decode_metadata(packed)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise TransportError(f"an envelope's metadata can't be read; it was discarded: {exc}") from exc
