from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taktora_trio import CodecError, Header, Metadata, TransportError
from taktora_trio.transport.envelope import (
    AT_MOST_ONCE,
    CORRELATION_FIELD,
    HEADER,
    RETAINED,
    envelope_size,
    pack_metadata,
    unpack,
)

U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
TEXT = st.text(max_size=20)
METADATA = st.builds(
    Metadata,
    content_type=TEXT,
    response_topic=TEXT,
    message_expiry=st.none() | U32,
    user_properties=st.lists(st.tuples(TEXT, TEXT), max_size=5).map(tuple),
)


def envelope(header: bytes, body: bytes, max_payload: int, topic_space: int, metadata_space: int = 0) -> memoryview:
    """Return one as it lies in shared memory: in a sample of full size."""
    return memoryview((header + body).ljust(envelope_size(max_payload, topic_space, metadata_space), b"\xee"))


def test_the_layout_is_the_documented_one() -> None:
    correlation_id = bytes(range(42))
    assert HEADER.pack(1, 2, 3, 4, 5, 6, 7, 8, correlation_id) == (
        bytes([1, *bytes(7), 2, *bytes(7), 3, *bytes(7), 4, 0, 0, 0, 5, 0, 6, 0, 7, 0, 0, 0, 8, 0]) + correlation_id
    )


@given(st.integers(1, 10**6), st.integers(0, 1000), U16)
def test_the_size_holds_everything_and_is_aligned(max_payload: int, topic_space: int, metadata_space: int) -> None:
    size = envelope_size(max_payload, topic_space, metadata_space)
    assert size % 8 == 0
    assert 0 <= size - (80 + max_payload + topic_space + metadata_space) < 8


@given(
    U64,
    U64,
    st.binary(max_size=100),
    st.booleans(),
    st.binary(max_size=100),
    TEXT,
    st.none() | METADATA,
    st.integers(0, 9),
    st.booleans(),
)
def test_round_trip(
    timestamp_ns: int,
    boottime_ns: int,
    correlation_id: bytes,
    retained: bool,
    payload: bytes,
    topic: str,
    metadata: Metadata | None,
    spare: int,
    at_most_once: bool,
) -> None:
    encoded = topic.encode()
    packed = pack_metadata(metadata) if metadata else b""
    rest = correlation_id[CORRELATION_FIELD:]
    spaces = len(payload) + spare, len(encoded) + (spare if topic else 0), len(packed) + len(rest) + spare
    lengths = len(payload), len(encoded), len(packed)
    flags = retained * RETAINED | at_most_once * AT_MOST_ONCE
    header = HEADER.pack(1, timestamp_ns, boottime_ns, *lengths, flags, len(correlation_id), correlation_id)
    buffer = envelope(header, payload + encoded + packed + rest, *spaces)
    unpacked, view, unpacked_topic, unpacked_metadata = unpack(buffer, *spaces)
    assert unpacked == Header(1, timestamp_ns, boottime_ns, correlation_id, retained, at_most_once=at_most_once)
    assert (bytes(view), unpacked_topic, unpacked_metadata) == (payload, topic, metadata)
    assert view.obj is buffer.obj  # a view, not a copy


def is_text(encoded: bytes) -> bool:
    try:
        encoded.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_metadata(block: bytes) -> bool:
    try:
        msgspec.msgpack.decode(block, type=Metadata)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


LENGTHS = st.one_of(U32, st.integers(0, 60))
SHORT_LENGTHS = st.one_of(U16, st.integers(0, 60))
SPACES = st.tuples(st.integers(1, 50), st.integers(0, 50), st.integers(0, 50))


@given(
    st.tuples(LENGTHS, SHORT_LENGTHS, SHORT_LENGTHS),
    st.sampled_from([0, 1, 2, 4, 7, 8, 2**15, 2**16, 2**31 + 1]),
    st.one_of(U16, st.integers(0, 90)),
    SPACES,
    st.binary(max_size=180),
)
def test_whatever_a_header_claims_nothing_outside_of_its_bounds_is_followed(
    lengths: tuple[int, int, int], flags: int, id_length: int, spaces: tuple[int, int, int], body: bytes
) -> None:
    size = envelope_size(*spaces)
    header = HEADER.pack(1, 2, 3, *lengths, flags, id_length, b"id")
    buffer = envelope(header, body[: size - HEADER.size], *spaces)
    payload_length, topic_length, metadata_length = lengths
    start = HEADER.size + payload_length
    end = start + topic_length
    try:
        unpacked, view, topic, metadata = unpack(buffer, *spaces)
    except TransportError:
        claimed = payload_length, topic_length, metadata_length + max(0, id_length - CORRELATION_FIELD)
        known = flags & ~0xFFFF_0007 == 0  # the documented flags
        within = known and all(length <= space for length, space in zip(claimed, spaces, strict=True))
        missing = spaces[1] > 0 and topic_length == 0
        block = bytes(buffer[end : end + metadata_length])
        assert not (within and not missing and is_text(bytes(buffer[start:end])) and (not block or is_metadata(block)))
        return
    assert len(view) == payload_length <= spaces[0]
    assert topic.encode() == bytes(buffer[start:end])
    assert topic_length <= spaces[1]
    assert (metadata is not None) == (metadata_length > 0)
    assert end + metadata_length <= size
    rest = bytes(buffer[end + metadata_length :])[: max(0, id_length - CORRELATION_FIELD)]
    assert unpacked.correlation_id == b"id".ljust(CORRELATION_FIELD, b"\0")[:id_length] + rest
    assert len(unpacked.correlation_id) == id_length
    few = unpacked.retained | unpacked.redelivered << 1 | unpacked.at_most_once << 2
    assert few | unpacked.delivery_id << 16 == flags


@settings(max_examples=500)
@given(SPACES, st.data())
def test_arbitrary_bytes_are_an_envelope_or_an_error(spaces: tuple[int, int, int], data: st.DataObject) -> None:
    size = envelope_size(*spaces)
    buffer = memoryview(data.draw(st.binary(min_size=size, max_size=size)))
    try:
        _, view, topic, _ = unpack(buffer, *spaces)
    except TransportError:
        return
    assert len(view) <= spaces[0]
    assert len(topic.encode()) <= spaces[1]


@settings(max_examples=500)
@given(
    st.binary(min_size=1, max_size=60)
    | st.recursive(
        st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.binary(max_size=5),
        lambda children: st.lists(children, max_size=6),
        max_leaves=20,
    ).map(msgspec.msgpack.encode)
)
def test_whatever_lies_where_the_metadata_is_it_is_metadata_or_an_error(block: bytes) -> None:
    header = HEADER.pack(1, 2, 3, 0, 0, len(block), 0, 0, b"")
    try:
        metadata = unpack(envelope(header, block, 1, 0, len(block)), 1, 0, len(block))[3]
    except TransportError:
        assert not is_metadata(block)
        return
    assert metadata is not None
    assert unpack(envelope(header, block, 1, 0, len(block)), 1, 0, len(block))[3] == metadata
    pack_metadata(metadata)  # it is whole: what can be read can be written again


@pytest.mark.parametrize(
    "block",
    [
        b"\x95\xa0\xa0\xc0\xdd\xff\xff\xff\xff",
        b"\x91\xdb\xff\xff\xff\xff",
        b"\x95\xa0\xa0\xc0\x90\xc6\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        pack_metadata(Metadata("a")).replace(b"\x95", b"\x96") + b"\x91" * 60_000,
    ],
    ids=["properties", "a text", "bytes", "fields", "deeply nested"],
)
def test_metadata_that_claims_more_than_there_is(block: bytes) -> None:
    header = HEADER.pack(1, 2, 3, 0, 0, len(block), 0, 0, b"")
    with pytest.raises(TransportError, match="metadata can't be read"):
        unpack(envelope(header, block, 1, 0, len(block)), 1, 0, len(block))


@pytest.mark.parametrize(
    "lengths",
    [
        (11, 0, 0),
        (2**32 - 1, 0, 0),
        (0, 6, 0),
        (0, 2**16 - 1, 0),
        (2**32 - 1, 2**16 - 1, 2**16 - 1),
        (16, 0, 0),
        (0, 5, 4),
    ],
)
def test_a_lying_header_is_named_with_its_limits(lengths: tuple[int, int, int]) -> None:
    buffer = envelope(HEADER.pack(1, 2, 3, *lengths, 0, 0, b""), b"", 10, 5, 3)
    with pytest.raises(TransportError) as caught:
        unpack(buffer, 10, 5, 3)
    claim = "claims {} bytes of payload, {} of topic and {} of metadata where at most 10, 5 and 3 fit"
    assert claim.format(*lengths) in str(caught.value)


def test_a_topic_that_is_not_utf_8() -> None:
    with pytest.raises(TransportError, match="topic is not UTF-8"):
        unpack(envelope(HEADER.pack(1, 2, 3, 0, 2, 0, 0, 0, b""), b"\xff\xfe", 10, 5), 10, 5, 0)


def test_a_topic_that_is_missing() -> None:
    with pytest.raises(TransportError, match="names no topic, where each must"):
        unpack(envelope(HEADER.pack(1, 2, 3, 3, 0, 0, 0, 0, b""), b"abc", 10, 5), 10, 5, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"content_type": 5},
        {"content_type": "a\ud800"},
        {"message_expiry": -1},
        {"message_expiry": 2**32},
        {"message_expiry": 2**70},
        {"message_expiry": 1.5},
        {"user_properties": (("a",),)},
        {"user_properties": (("a", None),)},
        {"user_properties": {"a": "b"}},
        {"response_topic": object()},
    ],
)
def test_metadata_that_the_peer_could_not_read_is_refused_before_it_is_sent(fields: dict[str, Any]) -> None:
    with pytest.raises(CodecError, match="metadata can't be encoded"):
        pack_metadata(Metadata(**fields))


@given(METADATA)
def test_metadata_takes_its_texts_and_a_few_bytes_for_each(metadata: Metadata) -> None:
    texts = [
        metadata.content_type,
        metadata.response_topic,
        *(text for pair in metadata.user_properties for text in pair),
    ]
    content = sum(len(text.encode()) for text in texts)
    others = 3 + len(metadata.user_properties)  # the arrays and the number
    assert len(pack_metadata(metadata)) <= content + 5 * (len(texts) + 1 + others)
