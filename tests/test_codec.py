from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict, cast

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taktora_trio import CodecError, ConfigError, JsonCodec, MsgpackCodec, PayloadCodec, RawCodec

CODECS = [JsonCodec(), MsgpackCodec()]
both = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


@attrs.define
class Pose:
    x: float
    tags: list[str] = attrs.field(factory=list)


@dataclasses.dataclass
class Command:
    name: Literal["start", "stop"]
    at: datetime | None = None


class Reading(msgspec.Struct):
    sensor: str
    value: float
    pose: Pose


class Point(TypedDict):
    x: int
    y: int


class Refusing(msgspec.Struct):
    level: int

    def __post_init__(self) -> None:
        if self.level > 9:
            raise ValueError("level is at most 9")


VALUES: list[tuple[Any, Any]] = [
    (Pose, Pose(1.5, ["a", "ü"])),
    (Command, Command("stop", datetime(2024, 5, 6, tzinfo=UTC))),
    (Reading, Reading("t1", 20.25, Pose(0.0))),
    (int, -(2**63)),
    (float, 0.1),
    (str, "ü\n\0"),
    (bytes, bytes(range(256))),
    (bool, True),
    (list[int], [1, 2, 3]),
    (dict[str, float], {"a": 1.0}),
    (tuple[int, str], (1, "a")),
    (int | str, "either"),
    (int | None, None),
    (Any, {"free": [1, None, "form"]}),
    (Point, {"x": 1, "y": 2}),
]


@both
@pytest.mark.parametrize(("message_type", "value"), VALUES, ids=lambda value: getattr(value, "__name__", None))
def test_round_trip_from_bytes_and_from_shared_memory(codec: PayloadCodec, message_type: Any, value: Any) -> None:
    payload = codec.encoder(message_type)(value)
    decode = codec.decoder(message_type)
    assert decode(payload) == value
    memory = (ctypes.c_ubyte * (len(payload) + 8))()
    view = memoryview(memory).cast("B")
    view[: len(payload)] = payload
    assert decode(view[: len(payload)]) == value
    assert type(decode(view[: len(payload)])) is type(value)


PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
FREE_FORM = st.recursive(
    PLAIN | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


@both
@settings(deadline=None)
@given(value=FREE_FORM)
def test_round_trip_of_anything(codec: PayloadCodec, value: Any) -> None:
    assert codec.decoder(dict)(codec.encoder(dict)({"value": value})) == {"value": value}


@both
@settings(deadline=None)
@given(payload=st.binary(max_size=60))
def test_arbitrary_bytes_are_decoded_or_a_codec_error(codec: PayloadCodec, payload: bytes) -> None:
    for message_type in (Pose, Command, Reading, Refusing, int, float, str, bytes, datetime, list[int], Any):
        decode: Callable[[bytes], object] = codec.decoder(cast(Any, message_type))
        with contextlib.suppress(CodecError):
            decode(payload)


@given(st.binary())
def test_raw_takes_every_byte_as_it_is(payload: bytes) -> None:
    decode, encode = RawCodec().decoder(bytes), RawCodec().encoder(bytes)
    assert decode(encode(payload)) == payload


def test_raw_encodes_what_has_bytes_and_decodes_a_copy() -> None:
    encode: Callable[[Any], Any] = RawCodec().encoder(bytes)
    assert encode(bytearray(b"abc")) == b"abc"
    words = (ctypes.c_uint32 * 2)(1, 2)
    assert (len(encode(memoryview(words))), bytes(encode(memoryview(words)))) == (8, bytes(words))
    memory = bytearray(b"abc")
    decoded = RawCodec().decoder(bytes)(memoryview(memory))
    memory[:] = b"xyz"
    assert (decoded, type(decoded)) == (b"abc", bytes)


@pytest.mark.parametrize("value", ["text", 3, None, [1]])
def test_raw_refuses_what_is_not_bytes(value: Any) -> None:
    with pytest.raises(CodecError, match=f"not {type(value).__name__}"):
        RawCodec().encoder(bytes)(value)


@pytest.mark.parametrize("message_type", [str, Pose, bytearray, list[bytes]])
def test_raw_is_for_channels_of_bytes(message_type: Any) -> None:
    for make in (RawCodec().encoder, RawCodec().decoder):
        with pytest.raises(ConfigError, match="declare the channel's type as bytes"):
            make(message_type)


@both
@pytest.mark.parametrize(
    ("message_type", "value"),
    [
        (Pose, {"x": 1.0}),
        (Pose, Command("stop")),
        (Reading, None),
        (int, "1"),
        (int, 1.5),
        (float, "1"),
        (str, b"1"),
        (list[int], (1,)),
        (dict[str, int], [1]),
        (Point, [1, 2]),
        (Any, object()),
        (Any, {1: object()}),
    ],
)
def test_a_wrong_type_is_an_error_at_the_sender(codec: PayloadCodec, message_type: Any, value: Any) -> None:
    with pytest.raises(CodecError) as caught:
        codec.encoder(message_type)(value)
    assert type(value).__name__ in str(caught.value)


@both
@pytest.mark.parametrize("message_type", [int, float])
def test_a_bool_is_no_number_for_the_peer_and_so_not_for_the_sender(codec: PayloadCodec, message_type: Any) -> None:
    with pytest.raises(CodecError):
        codec.decoder(message_type)(codec.encoder(bool)(True))
    with pytest.raises(CodecError):
        codec.encoder(message_type)(True)


@both
def test_a_value_that_cannot_be_written_is_an_error_at_the_sender(codec: PayloadCodec) -> None:
    loop: list[Any] = []
    loop.append(loop)
    for value in (loop, "\ud800"):
        with pytest.raises(CodecError, match=f"cannot encode a {type(value).__name__} as {codec.name}"):
            codec.encoder(type(value))(value)


@both
def test_an_int_is_a_float(codec: PayloadCodec) -> None:
    value = codec.decoder(float)(codec.encoder(float)(3))
    assert (value, type(value)) == (3.0, float)


def test_what_json_has_no_number_for_is_refused_by_the_peer_and_carried_by_msgpack() -> None:
    for value in (math.nan, math.inf):
        assert repr(MsgpackCodec().decoder(float)(MsgpackCodec().encoder(float)(value))) == repr(value)
        with pytest.raises(CodecError, match="Expected `float`, got `null`"):
            JsonCodec().decoder(float)(JsonCodec().encoder(float)(value))


@both
def test_a_payload_that_cannot_be_decoded_says_why(codec: PayloadCodec) -> None:
    encode: Callable[[dict[str, Any]], Any] = codec.encoder(dict)
    with pytest.raises(CodecError, match=r"Expected `float`, got `str` - at `\$\.value`"):
        codec.decoder(Reading)(encode({"sensor": "t1", "value": "hot", "pose": {"x": 0}}))
    with pytest.raises(CodecError, match="level is at most 9"):
        codec.decoder(Refusing)(encode({"level": 10}))
    with pytest.raises(CodecError, match="truncated"):
        codec.decoder(Reading)(b"")


@pytest.mark.parametrize(("codec", "bracket"), [(JsonCodec(), b"["), (MsgpackCodec(), b"\x91")])
def test_payloads_nested_too_deeply_and_lengths_that_lie(codec: PayloadCodec, bracket: bytes) -> None:
    decode: Callable[[bytes], object] = codec.decoder(list)
    for payload in (bracket * 1_000_000, b"\xdd\xff\xff\xff\xff"):
        with pytest.raises(CodecError):
            decode(payload)


@both
@pytest.mark.parametrize("message_type", [msgspec.Raw, memoryview, dict[str, msgspec.Raw], dict[str, memoryview]])
def test_what_was_decoded_does_not_look_into_shared_memory(codec: PayloadCodec, message_type: Any) -> None:
    value = {"a": b"hello"} if message_type not in (msgspec.Raw, memoryview) else b"hello"
    memory = bytearray(codec.encoder(type(value))(value))
    try:
        decode: Callable[[memoryview], Any] = codec.decoder(message_type)
    except ConfigError:
        return  # refusing such a type is as good
    decoded = decode(memoryview(memory).toreadonly())
    parts = list(decoded.values()) if isinstance(decoded, dict) else [decoded]
    before = [bytes(part) for part in parts]
    memory[:] = bytes(len(memory))
    assert [bytes(part) for part in parts] == before


@both
def test_a_type_that_cannot_be_decoded_is_a_mistake_in_the_declaration(codec: PayloadCodec) -> None:
    with pytest.raises(ConfigError, match=f"can't be decoded from {codec.name}"):
        codec.decoder(cast(Any, list[int] | set[int]))


@pytest.mark.parametrize(("codec", "name"), [(JsonCodec(), "json"), (MsgpackCodec(), "msgpack"), (RawCodec(), "raw")])
def test_names(codec: PayloadCodec, name: str) -> None:
    assert (codec.name, repr(codec)) == (name, f"{type(codec).__name__}()")
