"""Message types before and after a change, with messages of each, and whom the change breaks.

`sent`: consumers of the old version, where the app sends it. `received`: producers of the old version, where the app
receives it. By messages, that is what the encoders and decoders do. `strict` is what a document must say of the first,
where consumers may know less than our own decoders do: these fill a default in for a field that is gone.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated, Any, Literal, NamedTuple

import attrs
import msgspec


class Evolution(NamedTuple):
    old: Any
    olds: list[Any]
    new: Any
    news: list[Any]
    sent: bool = False
    received: bool = False
    strict: bool = False


@attrs.frozen
class Plain:
    name: str
    count: int


@attrs.frozen
class WithDefault:
    name: str
    count: int
    note: str = ""


@attrs.frozen
class WithRequired:
    name: str
    count: int
    note: str


@attrs.frozen
class Less:
    name: str


@attrs.frozen
class OptionalCount:
    name: str
    count: int = 0


class Omitting(msgspec.Struct, omit_defaults=True):
    name: str
    count: int = 0


@attrs.frozen
class Renamed:
    name: str
    number: int


class RenamedAsBefore(msgspec.Struct):
    name: str
    number: int = msgspec.field(name="count")


@attrs.frozen
class Wider:
    name: str
    count: float


@attrs.frozen
class Nullable:
    name: str
    count: int | None


@attrs.frozen
class Text:
    name: str
    count: str


@attrs.frozen
class OtherOrder:
    count: int
    name: str


@attrs.frozen
class OtherDefault:
    name: str
    count: int = 7


@dataclasses.dataclass
class AsDataclass:
    name: str
    count: int


class AsStruct(msgspec.Struct):
    name: str
    count: int


class Forbids(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    count: int


class ForbidsMore(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    count: int
    note: str = ""


class Limited(msgspec.Struct):
    name: str
    count: Annotated[int, msgspec.Meta(ge=0, le=10)]


class Row(msgspec.Struct, array_like=True):
    name: str
    count: int


class LongerRow(msgspec.Struct, array_like=True):
    name: str
    count: int
    note: str = ""


class InsertedRow(msgspec.Struct, array_like=True):
    name: str
    note: str
    count: int


class Start(msgspec.Struct, tag=True):
    motor: int


class Stop(msgspec.Struct, tag=True):
    motor: int


class Pause(msgspec.Struct, tag=True):
    seconds: float


class Two(enum.Enum):
    A = "a"
    B = "b"


class Three(enum.Enum):
    A = "a"
    B = "b"
    C = "c"


@attrs.frozen
class Outer:
    inner: Plain


@attrs.frozen
class OuterWider:
    inner: Wider


OLD = [Plain("x", 1)]
EVOLUTIONS = {
    "a field with a default is new": Evolution(Plain, OLD, WithDefault, [WithDefault("x", 1, "n")]),
    "a field without a default is new": Evolution(Plain, OLD, WithRequired, [WithRequired("x", 1, "n")], received=True),
    "a field is gone": Evolution(Plain, OLD, Less, [Less("x")], sent=True),
    "a field with a default is gone": Evolution(OptionalCount, [OptionalCount("x", 3)], Less, [Less("x")], strict=True),
    "a field gets a default": Evolution(Plain, OLD, OptionalCount, [OptionalCount("x")]),
    "a field has no default any more": Evolution(Omitting, [Omitting("x")], Plain, OLD, received=True),
    "a default is another one": Evolution(OptionalCount, [OptionalCount("x")], OtherDefault, [OtherDefault("x")]),
    "a field is renamed": Evolution(Plain, OLD, Renamed, [Renamed("x", 1)], sent=True, received=True),
    "a field is renamed in the code alone": Evolution(Plain, OLD, RenamedAsBefore, [RenamedAsBefore("x", 1)]),
    "int to float": Evolution(Plain, OLD, Wider, [Wider("x", 1.5)], sent=True),
    "float to int": Evolution(Wider, [Wider("x", 1.5)], Plain, OLD, received=True),
    "may be null": Evolution(Plain, OLD, Nullable, [Nullable("x", None)], sent=True),
    "may not be null any more": Evolution(Nullable, [Nullable("x", None)], Plain, OLD, received=True),
    "another type": Evolution(Plain, OLD, Text, [Text("x", "1")], sent=True, received=True),
    "another order of fields": Evolution(Plain, OLD, OtherOrder, [OtherOrder(1, "x")]),
    "an enum with one value more": Evolution(Two, [*Two], Three, [*Three], sent=True),
    "an enum with one value less": Evolution(Three, [*Three], Two, [*Two], received=True),
    "a literal with one value more": Evolution(Literal["a"], ["a"], Literal["a", "b"], ["a", "b"], sent=True),
    "a union with one type more": Evolution(
        Start | Stop, [Start(1), Stop(2)], Start | Stop | Pause, [Start(1), Stop(2), Pause(3)], sent=True
    ),
    "a union with one type less": Evolution(
        Start | Stop | Pause, [Start(1), Pause(3)], Start | Stop, [Start(1), Stop(2)], received=True
    ),
    "a limit is new": Evolution(AsStruct, [AsStruct("x", 11)], Limited, [Limited("x", 10)], received=True),
    "a limit is gone": Evolution(Limited, [Limited("x", 10)], AsStruct, [AsStruct("x", 11)], sent=True),
    "from attrs to a dataclass": Evolution(Plain, OLD, AsDataclass, [AsDataclass("x", 1)]),
    "from attrs to a struct": Evolution(Plain, OLD, AsStruct, [AsStruct("x", 1)]),
    "a new field, where unknown ones were refused": Evolution(
        Forbids, [Forbids("x", 1)], ForbidsMore, [ForbidsMore("x", 1, "n")], sent=True
    ),
    "a field less, where unknown ones are refused": Evolution(
        ForbidsMore, [ForbidsMore("x", 1, "n")], Forbids, [Forbids("x", 1)], received=True, strict=True
    ),
    "an array is longer": Evolution(Row, [Row("x", 1)], LongerRow, [LongerRow("x", 1, "n")]),
    "an array is longer, in the middle": Evolution(
        Row, [Row("x", 1)], InsertedRow, [InsertedRow("x", "n", 1)], sent=True, received=True
    ),
    "within another type": Evolution(Outer, [Outer(OLD[0])], OuterWider, [OuterWider(Wider("x", 1.5))], sent=True),
    "within a list": Evolution(list[Plain], [OLD], list[Wider], [[Wider("x", 1.5)]], sent=True),
    "within a mapping": Evolution(
        dict[str, Plain], [{"k": OLD[0]}], dict[str, Wider], [{"k": Wider("x", 1.5)}], sent=True
    ),
}
