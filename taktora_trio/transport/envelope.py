"""The wire form in shared memory: a fixed header, the payload, then the concrete topic, the metadata, and the rest of
a correlation id that is longer than the header's field.

Little-endian, C layout, 80 bytes: sequence_number u64, timestamp_ns u64, boottime_ns u64, payload_length u32,
topic_length u16, metadata_length u16, flags u32, correlation_length u16, correlation_id 42 bytes. The metadata is a
MessagePack array, and absent where there is none. The peer may be a crashed or foreign program, so no length in it is
followed unchecked.
"""

from __future__ import annotations

from struct import Struct

import msgspec

from taktora_trio.channels import Header, Metadata
from taktora_trio.errors import CodecError, TransportError

__all__ = [
    "AT_MOST_ONCE",
    "CORRELATION_FIELD",
    "DELIVERY_ID",
    "HEADER",
    "REDELIVERED",
    "RETAINED",
    "check_correlation_id",
    "envelope_size",
    "pack_metadata",
    "sent_at",
    "unpack",
    "unpack_metadata",
]

CORRELATION_FIELD = 42
"""Bytes of a correlation id in the header: a UUID as text fits, and 80 in all keep the payload aligned to 16."""
HEADER = Struct(f"<QQQIHHIH{CORRELATION_FIELD}s")
assert HEADER.size == 80
_NUMBERS = Struct("<QQQIHHIH")  # the header without the id, which most messages don't have
RETAINED, REDELIVERED, AT_MOST_ONCE, DELIVERY_ID = 1, 2, 4, 16
"""The flags: `Header.retained` is bit 0, `Header.redelivered` bit 1, `Header.at_most_once` bit 2, and
`Header.delivery_id` begins at bit 16. The others are 0."""
_NO_DELIVERY_ID = (1 << DELIVERY_ID) - 1
_FLAGS = RETAINED | REDELIVERED | AT_MOST_ONCE | 0xFFFF << DELIVERY_ID
_START = HEADER.size
_numbers_at = _NUMBERS.unpack_from
_times_at = Struct("<QQQ").unpack_from  # number, and when it was sent by two clocks
_encode_metadata = msgspec.msgpack.Encoder().encode
_decode_metadata = msgspec.msgpack.Decoder(Metadata).decode


def envelope_size(max_payload: int, topic_space: int, metadata_space: int = 0) -> int:
    """Return the bytes of the largest envelope, rounded up to the 8 that the header's alignment needs."""
    return -(-(HEADER.size + max_payload + topic_space + metadata_space) // 8) * 8


def check_correlation_id(value: bytes) -> bytes:
    """Return the id. Raises `CodecError` for one that no envelope can carry, whatever room there is."""
    if not isinstance(value, bytes) or len(value) > 0xFFFF:
        what = f"{len(value)} bytes" if isinstance(value, bytes) else f"a {type(value).__name__}"
        raise CodecError(f"a correlation id is {what}: give it as bytes, 65535 at most")
    return value


def pack_metadata(metadata: Metadata) -> bytes:
    """Encode metadata. Raises `CodecError` if the peer could not read it: making it checks no field."""
    try:
        packed = _encode_metadata(metadata)
        _decode_metadata(packed)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise CodecError(f"the metadata can't be encoded: {exc}") from exc
    return packed


def sent_at(memory: memoryview, at: int, number: int) -> int | None:
    """Return when the envelope of this number was sent, by `CLOCK_BOOTTIME`, in ns; `None` if it is not there."""
    found, _, sent = _times_at(memory, at)
    return sent if found == number else None


def unpack(
    buffer: memoryview, max_payload: int, topic_space: int, metadata_space: int, at: int = 0
) -> tuple[Header, memoryview, str, Metadata | None]:
    """Return the header, a view of the payload, topic and metadata. Raises `TransportError` for what can't be true.

    `at` is where the envelope lies in the buffer.
    """
    number, timestamp_ns, boottime_ns, length, topic_length, metadata_length, flags, id_length = _numbers_at(buffer, at)
    begin = at + _START
    payload = buffer[begin : begin + length]
    if not (length > max_payload or topic_length or topic_space or metadata_length or id_length):
        if not flags:
            return Header(number, timestamp_ns, boottime_ns), payload, "", None
        if not flags & _NO_DELIVERY_ID:
            return Header(number, timestamp_ns, boottime_ns, b"", False, False, flags >> DELIVERY_ID), payload, "", None
        if flags == AT_MOST_ONCE:
            return Header(number, timestamp_ns, boottime_ns, b"", False, False, 0, True), payload, "", None
    rest_length = max(0, id_length - CORRELATION_FIELD)
    beside = metadata_length + rest_length
    if length > max_payload or topic_length > topic_space or beside > metadata_space or flags & ~_FLAGS:
        raise TransportError(
            f"an envelope claims {length} bytes of payload, {topic_length} of topic and {beside} of metadata where at"
            f" most {max_payload}, {topic_space} and {metadata_space} fit, and flags {flags:#x}; it was discarded:"
            " is another program writing to this service?"
        )
    start = begin + length + topic_length
    topic = _unpack_topic(buffer[start - topic_length : start])
    if topic_space and not topic:
        raise TransportError("an envelope names no topic, where each must; it was discarded")
    metadata = unpack_metadata(buffer[start : start + metadata_length]) if metadata_length else None
    id_start = at + _NUMBERS.size
    correlation_id = bytes(buffer[id_start : id_start + min(id_length, CORRELATION_FIELD)])
    if rest_length:
        correlation_id += bytes(buffer[start + metadata_length : start + beside])
    header = Header(
        number,
        timestamp_ns,
        boottime_ns,
        correlation_id,
        bool(flags & RETAINED),
        bool(flags & REDELIVERED),
        flags >> DELIVERY_ID,
        bool(flags & AT_MOST_ONCE),
    )
    return header, payload, topic, metadata


def _unpack_topic(encoded: memoryview) -> str:
    try:
        return str(encoded, "utf-8")
    except UnicodeDecodeError as exc:
        raise TransportError(f"an envelope's topic is not UTF-8; it was discarded: {exc}") from exc


def unpack_metadata(packed: bytes | memoryview) -> Metadata:
    """Decode metadata. Raises `TransportError`."""
    try:
        return _decode_metadata(packed)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise TransportError(f"an envelope's metadata can't be read; it was discarded: {exc}") from exc
