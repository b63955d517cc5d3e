"""A plant with channels of every kind of topic and of message type."""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime
from typing import Annotated, Any, Literal, Required, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic

from taktora_trio import (
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    MsgpackCodec,
    Outbound,
    RawCodec,
)

__version__ = "2.7.1"


class Unit(enum.Enum):
    """The halves of the plant."""

    EAST = "east"
    WEST = "west"


@attrs.frozen
class Reading:
    """What a sensor has measured.

    Once a second.
    """

    unit: Unit
    celsius: float
    tags: list[str] = attrs.field(factory=list)
    spare: Unit = Unit.EAST


@dataclasses.dataclass
class Step:
    name: str
    after: Step | None = None
    """It contains itself."""


class Start(msgspec.Struct, tag=True, omit_defaults=True, rename="camel"):
    motor_id: int
    ramp_time: float = 1.0
    note: str | msgspec.UnsetType = msgspec.UNSET


class Stop(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    at: datetime | None = None
    key: UUID | None = None
    why: Literal["fault", "pause"] | None = None
    count: Annotated[int, msgspec.Meta(ge=0, description="How often before.")] = 0


class Sample(msgspec.Struct, array_like=True):
    x: int
    y: float = 0


class Loose(TypedDict, total=False):
    k: Required[int]
    o: str


class Motor(pydantic.BaseModel):
    """A motor, by pydantic."""

    unit: Unit
    speed: int = pydantic.Field(ge=0, le=100, description="In percent.")
    name: str = pydantic.Field(default="m", alias="motorName")
    since: datetime | None = None
    next: Motor | None = None
    pair: tuple[int, str] = (1, "a")


@attrs.frozen
class Moved:
    motor: Motor


KINDS: list[Any] = [
    Reading,
    Start | Stop,
    Sample,
    Loose,
    Step,
    int,
    bytes,
    Any,
    list[Reading],
    tuple[int, str],
    float | None,
    Motor,
    Moved,
    dict[str, Motor],
]


async def app(host: ConnectorHost) -> None: ...


inbound: list[Any] = [
    Inbound(f"in{n}", kind, MqttRouting(f"in/{n}/+/#", qos=1), max_metadata=100) for n, kind in enumerate(KINDS)
]
outbound: list[Any] = [
    Outbound(f"out{n}", kind, MqttRouting(f"out/{n}", qos=2, retain=True), max_metadata=100)
    for n, kind in enumerate(KINDS)
]
FILLED = Outbound("filled", Reading, MqttRouting("plant/{unit}/reading"))
READ = Inbound("read", Reading, MqttRouting("$share/workers/plant/{unit}/set/+", qos=1), max_payload=100, window=8)
deployment = Deployment(
    "kinds",
    app,
    [
        MqttConnector([*inbound, *outbound, FILLED, READ], options=MqttOptions(protocol="5")),
        MqttConnector([Inbound("motors", Motor, MqttRouting("motors/{unit}/{name}"))], name="models"),
        MqttConnector([Outbound("packed", Reading, MqttRouting("packed"))], name="packed", codec=MsgpackCodec()),
        MqttConnector(
            [Outbound("any", bytes, MqttRouting("raw/#")), Inbound("all", bytes, MqttRouting("#"))],
            name="raw",
            codec=RawCodec(),
        ),
    ],
)
