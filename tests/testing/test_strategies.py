"""Generated values: each comes back from its codec, keeps what its type declares, and fits its channel."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taktora_trio import ConfigError, Inbound, JsonCodec, MqttRouting, MsgpackCodec, Outbound, PayloadCodec, RawCodec
from taktora_trio.channels.codec import _is_same
from taktora_trio.testing.strategies import values

V = attrs.validators


class Mode(enum.Enum):
    HEAT = "heat"
    COOL = "cool"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@attrs.frozen
class Checked:
    """One field for each validator that narrows what is generated, so narrow that chance would find nothing."""

    percent: int = attrs.field(validator=[V.ge(40), V.lt(43)])
    ratio: float = attrs.field(validator=V.and_(V.gt(0.5), V.le(0.5001)))
    unit: str = attrs.field(validator=V.in_(["kelvin", "celsius"]))
    code: str = attrs.field(validator=V.matches_re(r"[A-Z]{3}-\d+"))
    name: str = attrs.field(validator=V.and_(V.instance_of(str), V.min_len(9), V.max_len(12)))
    maybe: int | None = attrs.field(validator=V.optional(V.ge(2**40)))
    several: list[int] = attrs.field(validator=V.deep_iterable(V.and_(V.ge(7), V.le(9)), V.min_len(2)))

    def __attrs_post_init__(self) -> None:
        if len(self.several) % 2:
            raise ValueError("even ones alone")


@attrs.define
class Node:
    children: list[Node]
    other: Node | None = None


@attrs.define
class Owner:
    pet: Pet | None


@attrs.define
class Pet:
    owner: Owner


@dataclasses.dataclass
class Plain:
    when: datetime
    day: date
    at: time
    lasted: timedelta
    price: Decimal
    id: UUID
    mode: Mode
    level: Level
    word: Literal["a", "b"]
    computed: int = dataclasses.field(default=0, init=False)


class Limited(msgspec.Struct):
    below: Annotated[int, msgspec.Meta(ge=1_000_000, lt=1_000_003)]
    even: Annotated[int, msgspec.Meta(multiple_of=14)]
    half: Annotated[float, msgspec.Meta(multiple_of=0.5, gt=3, lt=5)]
    positive: Annotated[float, msgspec.Meta(gt=0)]
    short: Annotated[str, msgspec.Meta(min_length=4, max_length=5)]
    word: Annotated[str, msgspec.Meta(pattern="^x[0-9]+$")]
    blob: Annotated[bytes, msgspec.Meta(min_length=3, max_length=4)]
    aware: Annotated[datetime, msgspec.Meta(tz=True)]
    naive: Annotated[datetime, msgspec.Meta(tz=False)]
    few: Annotated[list[int], msgspec.Meta(min_length=2, max_length=3)]


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str
    owner: Cat | None = None


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Options(TypedDict, total=False):
    quiet: bool
    depth: int


class Model(pydantic.BaseModel):
    percent: int = pydantic.Field(ge=40, le=43)
    names: list[str]


TYPES: list[Any] = [
    str, bytes, bool, int, float, None, Any, Checked, Model, Node, Owner, Pet, Plain, Limited, Cat | Dog, Point,
    Options, dict[str, list[int | None]], dict[int, str], dict[UUID, Mode], set[str], frozenset[int],
    tuple[int, str], tuple[float, ...], int | str | None, list[Cat | Dog], Annotated[int, msgspec.Meta(ge=3, le=3)],
]  # fmt: skip
CODECS: list[PayloadCodec] = [JsonCodec(), MsgpackCodec()]


def channel(kind: Any, **options: Any) -> Outbound[Any]:
    return Outbound("channel", kind, MqttRouting("topic"), **options)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_each_value_comes_back_as_it_was(kind: Any, codec: PayloadCodec) -> None:
    encode, decode = codec.encoder(kind), codec.decoder(kind)

    @settings(max_examples=12, database=None)  # and no health check is suppressed: few are made in vain
    @given(values(channel(kind), codec=codec))
    def try_it(value: Any) -> None:
        payload = encode(value)  # raises for what the type's own constraints refuse
        assert _is_same(value, decode(payload))
        assert len(payload) <= 4096

    try_it()


@settings(max_examples=50, database=None)
@given(values(channel(Checked)))
def test_what_the_validators_of_attrs_refuse_is_not_generated(value: Checked) -> None:
    attrs.validate(value)
    assert value.percent in (40, 41, 42)
    assert value.unit in ("kelvin", "celsius")
    assert len(value.several) % 2 == 0


def test_both_ends_of_what_is_allowed_are_generated() -> None:
    found: set[Any] = set()

    @settings(max_examples=300, database=None, derandomize=True)
    @given(values(channel(tuple[Mode, Literal["a", "b"], int | None, Annotated[int, msgspec.Meta(gt=1, le=4)]])))
    def try_it(value: tuple[Any, ...]) -> None:
        found.update(value[:2])
        found.add(("number", value[3]))
        found.add(type(value[2]))

    try_it()
    assert found == {*Mode, "a", "b", type(None), int, *(("number", number) for number in (2, 3, 4))}


@settings(max_examples=30, database=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(values(channel(list[str], max_payload=12)))
def test_each_fits_the_largest_payload(value: list[str]) -> None:
    assert len(JsonCodec().encoder(list[str])(value)) <= 12


@settings(max_examples=30, database=None)
@given(st.data())
def test_bytes_go_as_they_are(data: st.DataObject) -> None:
    assert len(data.draw(values(channel(bytes, max_payload=5)))) <= 5
    assert len(data.draw(values(channel(bytes, max_payload=8), codec=RawCodec()))) <= 8


class Setpoint(msgspec.Struct):
    unit: str
    celsius: float


@settings(max_examples=30, database=None)
@given(values(Inbound("setpoints", Setpoint, MqttRouting("plant/{unit}/setpoint", qos=1))))
def test_a_field_that_makes_the_topic_can_stand_in_one(value: Setpoint) -> None:
    assert MqttRouting("plant/{unit}/setpoint").topic_of(Setpoint)(value) == f"plant/{value.unit}/setpoint"  # type: ignore[misc]
    assert value.unit
    assert "/" not in value.unit


def test_what_is_no_channel_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"values\(\) takes a channel, an Outbound or Inbound, not <class 'int'>"):
        values(int)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"codec is 'json'; it must be a PayloadCodec, as JsonCodec\(\)"):
        values(channel(int), codec="json")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the raw codec carries bytes"):
        values(channel(int), codec=RawCodec())


def test_without_hypothesis_the_extra_is_named() -> None:
    code = "import sys; sys.modules['hypothesis'] = None; import taktora_trio.testing.strategies"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "taktora_trio.errors.ConfigError: taktora_trio.testing.strategies needs hypothesis:"
        " pip install 'taktora-trio[testing]'"
    )
