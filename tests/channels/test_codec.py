from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import enum
import math
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, TypeAlias, TypedDict, cast
from uuid import UUID

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taktora_trio import (
    CodecError,
    ConfigError,
    JsonCodec,
    MqttConnector,
    MqttRouting,
    MsgpackCodec,
    Outbound,
    PayloadCodec,
    RawCodec,
)

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
        if self.level < 0:
            raise KeyError(self.level)


@attrs.define
class Private:
    _secret: int = 0


@attrs.define(eq=False)
class Incomparable:
    value: float


@attrs.define
class Later:
    """Has a field that `__init__` does not take."""

    first: int
    computed: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.computed = 2 * self.first


class Color(enum.Enum):
    RED = "red"


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
    (Later, Later(3)),
    (Decimal, Decimal("1e400")),
    (timedelta, timedelta.max),
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
    for value in (loop, "\ud800", 10**5000):
        with pytest.raises(CodecError, match=f"cannot encode a {type(value).__name__} as {codec.name}"):
            codec.encoder(type(value))(value)


@both
def test_an_int_is_a_float(codec: PayloadCodec) -> None:
    value = codec.decoder(float)(codec.encoder(float)(3))
    assert (value, type(value)) == (3.0, float)


def test_what_json_has_no_number_for_is_refused_and_carried_by_msgpack() -> None:
    for value in (math.nan, math.inf):
        assert repr(MsgpackCodec().decoder(float)(MsgpackCodec().encoder(float)(value))) == repr(value)
        with pytest.raises(CodecError, match=f"Expected `float`, got `null`: {value}"):
            JsonCodec().encoder(float)(value)


@both
def test_a_payload_that_cannot_be_decoded_says_why(codec: PayloadCodec) -> None:
    encode: Callable[[dict[str, Any]], Any] = codec.encoder(dict)
    with pytest.raises(CodecError, match=r"Expected `float`, got `str` - at `\$\.value`"):
        codec.decoder(Reading)(encode({"sensor": "t1", "value": "hot", "pose": {"x": 0}}))
    with pytest.raises(CodecError, match="level is at most 9"):
        codec.decoder(Refusing)(encode({"level": 10}))
    with pytest.raises(CodecError, match="KeyError: -1"):
        codec.decoder(Refusing)(encode({"level": -1}))
    with pytest.raises(CodecError, match=r"Invalid enum value 'a\\x1ba*\.\.\.$"):
        codec.decoder(Color)(codec.encoder(str)("a\x1b" + "a" * 1000))
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
    memory = bytearray(codec.encoder(cast(Any, dict[str, bytes] if isinstance(value, dict) else bytes))(value))
    try:
        decode: Callable[[memoryview], Any] = codec.decoder(message_type)
    except ConfigError:
        return  # refusing such a type is as good
    decoded = decode(memoryview(memory).toreadonly())
    parts = list(decoded.values()) if isinstance(decoded, dict) else [decoded]
    before = [bytes(part) for part in parts]
    memory[:] = bytes(len(memory))
    assert [bytes(part) for part in parts] == before


ODD = timezone(timedelta(hours=5, minutes=53, seconds=28))
LOST: list[tuple[str, Any, Any]] = [
    ("json", Pose, Pose(math.nan)),
    ("json", list[float], [1.0, -math.inf]),
    ("json", float | None, math.nan),
    ("json", datetime, datetime(2026, 1, 1, 12, tzinfo=ODD)),
    ("json", dict, {1: 2}),
    ("json", dict, {"a": b"bytes"}),
    ("both", float, 10**400),
    ("both", float, 2**63 + 1),
    ("both", Pose, Pose("hot")),  # type: ignore[arg-type]
    ("both", Pose, Pose(0.0, ("a",))),  # type: ignore[arg-type]
    ("both", Private, Private(5)),
    ("json", Any, {"when": datetime(2026, 1, 1, tzinfo=UTC)}),
    ("both", Literal["a", "b"], "c"),
    ("both", time, time(1, 2, tzinfo=ODD)),
]


@both
@pytest.mark.parametrize(("of", "message_type", "value"), LOST, ids=range(len(LOST)))
def test_what_would_not_come_back_as_it_was_is_an_error_at_the_sender(
    codec: PayloadCodec, of: str, message_type: Any, value: Any
) -> None:
    encode = codec.encoder(message_type)
    if of in ("both", codec.name):
        with pytest.raises(CodecError):
            encode(value)
    else:
        assert normal(codec.decoder(message_type)(encode(value))) == normal(value)


@both
def test_what_has_no_equal_comes_back_too(codec: PayloadCodec) -> None:
    values: list[tuple[Any, Any]] = [
        (Incomparable, Incomparable(1.5)),
        (list[Incomparable], [Incomparable(1.5)]),
        (dict[str, Incomparable], {"a": Incomparable(1.5)}),
        (Decimal, Decimal("NaN")),
        (tuple[Decimal, int], (Decimal("sNaN"), 1)),
    ]
    for message_type, value in values:
        assert normal(codec.decoder(message_type)(codec.encoder(message_type)(value))) == normal(value)


def normal(value: Any) -> Any:
    """Made of what has an equal: a NaN has none, and 3 and 3.0 are equal."""
    if isinstance(value, int | float):
        return Fraction(value) if math.isfinite(value) else repr(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return {normal(key): normal(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [normal(part) for part in value]
    if isinstance(value, msgspec.Struct):
        return type(value), normal(msgspec.structs.asdict(value))
    if attrs.has(type(value)):
        return type(value), normal(attrs.asdict(value, recurse=False))
    if dataclasses.is_dataclass(value):
        return type(value), normal(vars(value))
    return value


Kind: TypeAlias = tuple[Any, st.SearchStrategy[Any]]
"""A type, and values for it: some of them are none of the type's."""


def several(number: int, kind: Kind) -> Kind:
    of: Any = kind[0]
    values = kind[1]
    forms: list[Kind] = [
        (list[of], st.lists(values, max_size=3)),
        (tuple[of, ...], st.lists(values, max_size=3).map(tuple)),
        (of | None, st.none() | values),
        (dict[str, of], st.dictionaries(st.text(max_size=3), values, max_size=3)),
        (dict[int, of], st.dictionaries(st.integers(), values, max_size=3)),
    ]
    return forms[number]


def fields_of(sort: int, kinds: list[Kind]) -> Kind:
    """A class of one of four sorts, with a field of each kind."""
    fields = {f"f{number}": kind for number, (kind, _) in enumerate(kinds)}
    cls: Any
    if sort == 0:
        cls = attrs.make_class("Attrs", {name: attrs.field(type=kind) for name, kind in fields.items()})
    elif sort == 1:
        cls = dataclasses.make_dataclass("Data", fields.items())
    else:
        cls = msgspec.defstruct("Struct", fields.items(), array_like=sort == 3)
    return cls, st.builds(cls, *(values for _, values in kinds))


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=3)
    | st.datetimes()
    | st.decimals()
    | st.just(object()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2) | st.integers(), inner, max_size=2)
        | st.tuples(inner)
    ),
    max_leaves=4,
)
ZONES = st.none() | st.sampled_from([UTC, ODD, timezone(timedelta(hours=-14)), timezone(timedelta(microseconds=1))])
LEAVES: list[Kind] = [
    (float, st.floats() | st.integers()),
    (int, st.integers(-(2**70), 2**70) | st.booleans() | st.builds(pow, st.just(10), st.just(5000))),
    (bool, st.booleans()),
    (str, st.text(st.characters(categories=None, exclude_categories=())) | st.text()),
    (bytes, st.binary() | st.builds(bytearray, st.binary())),
    (datetime, st.datetimes(timezones=ZONES)),
    (date, st.dates() | st.datetimes()),
    (time, st.times(timezones=ZONES)),
    (timedelta, st.timedeltas()),
    (Decimal, st.decimals() | st.just(Decimal("sNaN"))),
    (UUID, st.uuids()),
    (Color, st.sampled_from(Color)),
    (Literal["a", 1], st.sampled_from(["a", 1, "b", True])),
    (Any, ANY),
    (Later, st.builds(Later, st.integers())),
    (Private, st.builds(Private, st.integers())),
    (Incomparable, st.builds(Incomparable, st.floats() | st.integers())),
    (Refusing, st.builds(Refusing, st.integers(0, 9))),
]
KINDS: st.SearchStrategy[Kind] = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: (
        st.builds(several, st.integers(0, 4), inner)
        | st.builds(fields_of, st.integers(0, 3), st.lists(inner, min_size=1, max_size=3))
    ),
    max_leaves=4,
)


@both
@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_what_an_encoder_takes_its_decoder_gives_back(codec: PayloadCodec, data: st.DataObject) -> None:
    message_type, values = data.draw(KINDS)
    value = data.draw(st.one_of(values, values, values, ANY))
    try:
        encode, decode = codec.encoder(message_type), codec.decoder(message_type)
    except ConfigError:
        return
    try:
        payload = encode(value)
    except CodecError:
        return
    assert normal(decode(payload)) == normal(value)


@given(st.binary(max_size=24).map(lambda data: data[: len(data) // 8 * 8]), st.sampled_from("BbcHhIifdqQ?"), st.data())
def test_raw_takes_every_view_as_it_is(payload: bytes, form: Any, data: st.DataObject) -> None:
    view = memoryview(payload).cast(form)
    step = data.draw(st.sampled_from([1, 2, -1, -3]))
    encode: Callable[[Any], Any] = RawCodec().encoder(bytes)
    for sent in (view, view[::step], view[1:], view[:0], memoryview(bytearray(payload))[::step].toreadonly()):
        assert bytes(encode(sent)) == sent.tobytes()


def test_raw_takes_views_of_any_shape_and_refuses_one_that_is_gone() -> None:
    encode: Callable[[Any], Any] = RawCodec().encoder(bytes)
    assert encode(memoryview(bytes(range(12))).cast("H", (2, 3))) == bytes(range(12))
    assert encode(memoryview(ctypes.c_double(1.5))) == struct.pack("d", 1.5)
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(CodecError, match="can't be sent"):
        encode(view)


class Unresolved(msgspec.Struct):
    x: Missing  # type: ignore[name-defined]  # noqa: F821


@attrs.define
class UnresolvedAttrs:
    x: list[Missing]  # type: ignore[name-defined]  # noqa: F821


@dataclasses.dataclass
class UnresolvedPart:
    x: Unresolved
    y: math.missing  # type: ignore[name-defined]


class UnresolvedDict(TypedDict):
    x: Missing  # type: ignore[name-defined]  # noqa: F821


@both
@pytest.mark.parametrize("message_type", [Unresolved, UnresolvedAttrs, UnresolvedPart, UnresolvedDict, "Missing", 5])
def test_a_type_that_cannot_be_resolved_is_a_mistake_in_the_declaration(codec: PayloadCodec, message_type: Any) -> None:
    for topic in ("a", "a/{x}"):
        with pytest.raises(ConfigError) as caught:
            MqttConnector([Outbound("out", message_type, MqttRouting(topic))], codec=codec)
        assert "\n" not in str(caught.value)


@both
def test_a_field_that_would_not_be_sent_is_a_mistake_in_the_declaration(codec: PayloadCodec) -> None:
    message_types: list[Any] = [Private, list[Private], dict[str, Private | None]]
    for message_type in message_types:
        with pytest.raises(ConfigError, match=r"'_secret' of Private would not be sent, .* rename it"):
            MqttConnector([Outbound("out", message_type, MqttRouting("a"))], codec=codec)


@both
def test_a_type_that_cannot_be_decoded_is_a_mistake_in_the_declaration(codec: PayloadCodec) -> None:
    with pytest.raises(ConfigError, match=f"can't be decoded from {codec.name}"):
        codec.decoder(cast(Any, list[int] | set[int]))


@pytest.mark.parametrize(("codec", "name"), [(JsonCodec(), "json"), (MsgpackCodec(), "msgpack"), (RawCodec(), "raw")])
def test_names(codec: PayloadCodec, name: str) -> None:
    assert (codec.name, repr(codec)) == (name, f"{type(codec).__name__}()")
