"""Models of pydantic as messages, and classes that no codec knows."""

from __future__ import annotations

import enum
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs
import pydantic
import pydantic.dataclasses
import pytest

from taktora_trio import (
    CodecError,
    ConfigError,
    ConnectorHost,
    Deployment,
    Inbound,
    JsonCodec,
    MqttConnector,
    MqttRouting,
    MsgpackCodec,
    Outbound,
    PayloadCodec,
    ZstdCodec,
)
from taktora_trio.testing import open_app

CODECS: list[PayloadCodec] = [JsonCodec(), MsgpackCodec(), ZstdCodec(JsonCodec(), threshold=0)]
each = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


class Unit(enum.Enum):
    EAST = "east"
    WEST = "west"


class Motor(pydantic.BaseModel):
    """A motor."""

    unit: Unit
    speed: int = pydantic.Field(ge=0, le=100)
    name: str = pydantic.Field(default="m", alias="motorName")
    since: datetime | None = None
    next: Motor | None = None


class Strict(pydantic.BaseModel, strict=True, extra="forbid"):
    at: datetime
    key: UUID
    price: Decimal
    marks: set[int]
    pair: tuple[int, str]
    raw: bytes = b"x"


class Plan(pydantic.BaseModel):
    motors: list[Motor] = []


@attrs.frozen
class Around:
    motor: Motor
    others: dict[str, Motor] = attrs.field(factory=dict)


NOW = datetime(2026, 11, 26, 7, 30, tzinfo=UTC)
MOTOR = Motor(unit=Unit.WEST, speed=3, motorName="left", since=NOW, next=Motor(unit=Unit.EAST, speed=0))
STRICT = Strict(at=NOW, key=UUID(int=7), price=Decimal("1.10"), marks={1, 2}, pair=(1, "a"))


@each
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Motor, MOTOR),
        (Strict, STRICT),
        (Plan, Plan(motors=[MOTOR])),
        (list[Motor], [MOTOR, MOTOR]),
        (dict[str, Motor], {"a": MOTOR}),
        (Motor | None, None),
        (Motor | None, MOTOR),
        (Around, Around(MOTOR, {"a": MOTOR})),
    ],
)
def test_a_model_comes_back_as_it_was(kind: Any, message: Any, codec: PayloadCodec) -> None:
    encode, decode = codec.encoder(kind), codec.decoder(kind)
    back = decode(memoryview(encode(message)))
    assert back == message
    assert type(back) is type(message)


def test_json_is_what_pydantic_writes() -> None:
    assert bytes(JsonCodec().encoder(Motor)(MOTOR)) == MOTOR.model_dump_json(by_alias=True).encode()


@each
def test_what_is_not_valid_is_one_line_that_names_the_fields(codec: PayloadCodec) -> None:
    payload = codec.encoder(dict)({"unit": "north", "speed": 200})
    with pytest.raises(CodecError) as caught:
        codec.decoder(Motor)(payload)
    said = str(caught.value)
    assert "unit: Input should be 'east' or 'west'" in said
    assert "speed: Input should be less than or equal to 100" in said
    assert said.isprintable()
    assert "pydantic.dev" not in said


def test_of_many_errors_some_are_said() -> None:
    wrong = JsonCodec().encoder(dict)({"motors": [{"speed": 200}] * 1000})
    with pytest.raises(CodecError, match=r"motors\.0\.unit: Field required; .*\.\.\.$") as caught:
        JsonCodec().decoder(Plan)(wrong)
    assert len(str(caught.value)) < 600


@each
def test_a_model_that_was_made_without_validation_is_refused_where_it_is_sent(codec: PayloadCodec) -> None:
    encode = codec.encoder(Motor)
    with pytest.raises(CodecError, match="speed"):
        encode(Motor.model_construct(unit=Unit.EAST, speed=-1))
    with pytest.raises(CodecError, match="carries"):
        encode(Plan())  # type: ignore[arg-type]


@each
def test_a_model_that_would_come_back_as_another_is_refused_where_it_is_sent(codec: PayloadCodec) -> None:
    class Lossy(pydantic.BaseModel):
        kept: int = 0
        left_out: int = pydantic.Field(default=0, exclude=True)

    class More(Motor):
        extra: int = 0

    with pytest.raises(CodecError, match="would turn"):
        codec.encoder(Lossy)(Lossy(left_out=3))
    with pytest.raises(CodecError, match="would turn"):
        codec.encoder(Motor)(More(unit=Unit.EAST, speed=1, extra=7))


@each
def test_a_validator_may_raise_anything(codec: PayloadCodec) -> None:
    class Odd(pydantic.BaseModel):
        x: int

        @pydantic.field_validator("x")
        @classmethod
        def check(cls, x: int) -> int:
            if x > 3:
                raise KeyError("odd\n")
            return x

    with pytest.raises(CodecError, match="odd"):
        codec.decoder(Odd)(codec.encoder(dict)({"x": 4}))


@each
def test_the_topic_fills_fields_in(codec: PayloadCodec) -> None:
    routing = MqttRouting("plant/{unit}/{name}")
    fill = routing.topic_of(Motor)
    assert fill is not None
    assert fill(MOTOR) == "plant/west/left"
    read = routing.fields_of(Motor)
    assert read is not None
    decode = codec.filling_decoder(Motor)
    payload = codec.encoder(dict)({"speed": 3, "motorName": "other"})
    assert decode(payload, read("plant/west/left")) == Motor(unit=Unit.WEST, speed=3, motorName="left")
    with pytest.raises(ConfigError, match="has no field 'nothing' for the topic; it has unit, speed"):
        Inbound("a", Motor, MqttRouting("plant/{nothing}"))
    with pytest.raises(ConfigError, match="a field for the topic is a str"):
        Inbound("a", Motor, MqttRouting("plant/{since}"))


async def echo(host: ConnectorHost) -> None:
    async with host.open_reader(ASKED) as asked, host.open_writer(TOLD) as told:
        async for received in asked:
            await told.send(received.value.model_copy(update={"speed": received.value.speed + 1}))


ASKED = Inbound("asked", Motor, MqttRouting("asked/{unit}", qos=1))
TOLD = Outbound("told", Motor, MqttRouting("told/{unit}", qos=1))


async def test_an_app_of_models(autojump_clock: object) -> None:
    deployment = Deployment("models", echo, [MqttConnector([ASKED, TOLD])])
    async with open_app(deployment) as app:
        await app.publish("asked/east", b'{"unit": "west", "speed": 1000}')  # nothing that can be read
        await app.publish("asked/east", Motor(unit=Unit.EAST, speed=3))
        sent = await app.expect("told/+")
        assert (sent.topic, sent.value) == ("told/east", Motor(unit=Unit.EAST, speed=4))


# What is refused where it is declared


class Custom:
    pass


@pydantic.dataclasses.dataclass
class Checked:
    x: int


@attrs.frozen
class WithCustom:
    a: list[Custom]


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        (Custom, ["Custom", "attrs"]),
        (WithCustom, ["Custom", "WithCustom"]),
        (complex, ["complex"]),
        (object, ["object"]),
        (list[Custom], ["Custom"]),
        (Checked, ["Checked", "pydantic.BaseModel"]),
        (list[Checked], ["Checked", "pydantic.BaseModel"]),
    ],
)
@pytest.mark.parametrize("codec", CODECS[:2], ids=lambda codec: codec.name)
def test_a_class_that_no_codec_knows_is_refused_where_it_is_declared(
    kind: Any, parts: list[str], codec: PayloadCodec
) -> None:
    for declare in (Outbound, Inbound):
        with pytest.raises(ConfigError) as caught:
            MqttConnector([declare("a", kind, MqttRouting("a"))], codec=codec)
        assert all(part in str(caught.value) for part in parts)


def test_a_model_of_pydantic_1_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        """As pydantic 1 had it: without `model_validate_json`."""

    monkeypatch.setattr(pydantic, "BaseModel", Old)

    class Model(Old):
        pass

    with pytest.raises(ConfigError, match="use pydantic 2"):
        MqttConnector([Outbound("a", Model, MqttRouting("a"))])


def test_pydantic_is_not_imported_for_others() -> None:
    code = (
        "import sys, attrs; from taktora_trio import *; C = attrs.make_class('C', {'x': attrs.field(type=int)})\n"
        "MqttConnector([Outbound('a', C, MqttRouting('a/{x}')), Inbound('b', list[C], MqttRouting('b'))])\n"
        "assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
