from __future__ import annotations

import ctypes
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio import ConfigError, Header, TransportError
from taktora_trio.transport.envelope import (
    HEADER,
    NO_CORRELATION_ID,
    check_correlation_id,
    envelope_size,
    envelope_type,
    unpack,
)

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


def envelope(header: bytes, body: bytes, max_payload: int, topic_space: int) -> memoryview:
    """As it lies in shared memory: in a sample of full size."""
    return memoryview((header + body).ljust(envelope_size(max_payload, topic_space), b"\xee"))


def test_the_layout_is_the_documented_one() -> None:
    correlation_id = bytes(range(32))
    assert HEADER.pack(1, 2, 3, 4, correlation_id) == (
        b"\x01" + bytes(7) + b"\x02" + bytes(7) + b"\x03\0\0\0" + b"\x04\0\0\0" + correlation_id
    )


@given(st.integers(1, 10**6), st.integers(0, 1000))
def test_the_size_holds_everything_and_is_aligned(max_payload: int, topic_space: int) -> None:
    size = envelope_size(max_payload, topic_space)
    assert size % 8 == 0
    assert 56 + max_payload + topic_space <= size < 56 + max_payload + topic_space + 8


def test_iceoryx2_knows_an_envelope_by_its_size() -> None:
    kind = envelope_type(64)
    assert kind is envelope_type(64)
    assert (ctypes.sizeof(kind), ctypes.alignment(kind)) == (64, 8)
    assert cast(Any, kind).type_name() == "taktora.ConnectorEnvelope.64"
    assert envelope_type(72) is not kind


@given(U64, U64, st.binary(min_size=32, max_size=32), st.binary(max_size=100), st.text(max_size=20), st.integers(0, 9))
def test_round_trip(
    sequence_number: int, timestamp_ns: int, correlation_id: bytes, payload: bytes, topic: str, spare: int
) -> None:
    encoded = topic.encode()
    max_payload, topic_space = len(payload) + spare, len(encoded) + spare
    header = HEADER.pack(sequence_number, timestamp_ns, len(payload), len(encoded), correlation_id)
    buffer = envelope(header, payload + encoded, max_payload, topic_space)
    unpacked, view, unpacked_topic = unpack(buffer, max_payload, topic_space)
    assert unpacked == Header(sequence_number, timestamp_ns, correlation_id)
    assert (bytes(view), unpacked_topic) == (payload, topic)
    assert view.obj is buffer.obj  # a view, not a copy


LENGTHS = st.one_of(U32, st.integers(0, 60))


@given(LENGTHS, LENGTHS, st.integers(1, 50), st.integers(0, 50), st.binary(max_size=120))
def test_whatever_a_header_claims_nothing_outside_of_its_bounds_is_followed(
    payload_length: int, topic_length: int, max_payload: int, topic_space: int, body: bytes
) -> None:
    size = envelope_size(max_payload, topic_space)
    header = HEADER.pack(1, 2, payload_length, topic_length, NO_CORRELATION_ID)
    buffer = envelope(header, body[: size - HEADER.size], max_payload, topic_space)
    try:
        _, view, topic = unpack(buffer, max_payload, topic_space)
    except TransportError:
        fits = payload_length <= max_payload and topic_length <= topic_space
        if fits:  # then it was the topic
            end = HEADER.size + payload_length
            with pytest.raises(UnicodeDecodeError):
                bytes(buffer[end : end + topic_length]).decode()
        return
    assert len(view) == payload_length <= max_payload
    assert len(topic.encode()) == topic_length <= topic_space
    assert HEADER.size + len(view) + topic_length <= size


@given(st.integers(1, 50), st.integers(0, 50), st.data())
def test_arbitrary_bytes_are_an_envelope_or_an_error(max_payload: int, topic_space: int, data: st.DataObject) -> None:
    size = envelope_size(max_payload, topic_space)
    buffer = memoryview(data.draw(st.binary(min_size=size, max_size=size)))
    try:
        _, view, topic = unpack(buffer, max_payload, topic_space)
    except TransportError:
        return
    assert len(view) <= max_payload
    assert len(topic.encode()) <= topic_space


@pytest.mark.parametrize(
    ("payload_length", "topic_length"),
    [(11, 0), (2**32 - 1, 0), (0, 6), (0, 2**32 - 1), (2**32 - 1, 2**32 - 1), (16, 0)],
)
def test_a_lying_header_is_named_with_its_limits(payload_length: int, topic_length: int) -> None:
    buffer = envelope(HEADER.pack(1, 2, payload_length, topic_length, NO_CORRELATION_ID), b"", 10, 5)
    with pytest.raises(TransportError) as caught:
        unpack(buffer, 10, 5)
    assert f"claims {payload_length} bytes of payload and {topic_length} of topic" in str(caught.value)
    assert "at most 10 and 5 fit" in str(caught.value)


def test_a_topic_that_is_not_utf_8() -> None:
    with pytest.raises(TransportError, match="topic is not UTF-8"):
        unpack(envelope(HEADER.pack(1, 2, 0, 2, NO_CORRELATION_ID), b"\xff\xfe", 10, 5), 10, 5)


def test_correlation_ids_are_padded_and_never_cut() -> None:
    assert check_correlation_id(b"") == NO_CORRELATION_ID
    assert check_correlation_id(b"abc") == b"abc" + bytes(29)
    assert check_correlation_id(bytes(range(32))) == bytes(range(32))
    with pytest.raises(ConfigError, match="at most 32 bytes, this one has 33"):
        check_correlation_id(bytes(33))
