"""Makes hypothesis strategies from msgspec's description of a message type."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, timedelta, timezone
from typing import Any, TypeAlias

import attrs
from hypothesis import reject
from hypothesis import strategies as st
from msgspec import inspect

from taktora_trio.channels.codec import PayloadCodec
from taktora_trio.errors import CodecError
from taktora_trio.testing.validators import narrowed

__all__ = ["Generator"]

Strategy: TypeAlias = st.SearchStrategy[Any]

_LEAST, _MOST = -(2**63), 2**64 - 1  # msgspec writes no other whole numbers
_ITEMS = 8
"""The number of items that a collection has at most; of those that say nothing of it."""
_DEPTH = 2
"""The number of objects of one class that lie within one another, at most."""
_DAYS = 100_000  # of a duration
_ZONES = st.sampled_from([UTC, *(timezone(timedelta(minutes=minutes)) for minutes in (-300, 120, 345))])
_Record: TypeAlias = inspect.StructType | inspect.DataclassType | inspect.NamedTupleType
_Number: TypeAlias = inspect.IntType | inspect.FloatType


class Generator:
    """Makes strategies for one codec; strings and bytes have no more than `longest` of anything."""

    def __init__(self, codec: PayloadCodec, longest: int) -> None:
        self._longest = longest
        self._takes_odd_floats = _carries(codec, math.nan) and _carries(codec, math.inf)
        self._around = Counter[type]()  # a class may have fields of its own type
        self._known: dict[tuple[type, frozenset[tuple[type, int]]], Strategy] = {}
        self._makers: dict[type[inspect.Type], Callable[[Any], Strategy]] = {
            inspect.AnyType: lambda _: self._anything(),
            inspect.NoneType: lambda _: st.none(),
            inspect.BoolType: lambda _: st.booleans(),
            inspect.IntType: _whole_numbers,
            inspect.FloatType: self._floats,
            inspect.StrType: self._texts,
            inspect.BytesType: self._bytes,
            inspect.ByteArrayType: lambda info: self._bytes(info).map(bytearray),
            inspect.DateTimeType: lambda info: st.datetimes(timezones=_zones(info.tz)),
            inspect.TimeType: lambda info: st.times(timezones=_zones(info.tz)),
            inspect.DateType: lambda _: st.dates(),
            inspect.TimeDeltaType: lambda _: st.timedeltas(timedelta(-_DAYS), timedelta(_DAYS)),
            inspect.UUIDType: lambda _: st.uuids(),
            inspect.DecimalType: lambda _: st.decimals(allow_nan=False, allow_infinity=False),
            inspect.EnumType: lambda info: st.sampled_from(list(info.cls)),
            inspect.LiteralType: lambda info: st.sampled_from(list(info.values)),
            inspect.UnionType: self._union,
            inspect.ListType: lambda info: self._items(st.lists, info),
            inspect.VarTupleType: lambda info: self._items(st.lists, info).map(tuple),
            inspect.SetType: lambda info: self._items(st.sets, info),
            inspect.FrozenSetType: lambda info: self._items(st.frozensets, info),
            inspect.TupleType: lambda info: st.tuples(*map(self.of, info.item_types)),
            inspect.DictType: self._mapping,
            inspect.TypedDictType: self._typed_dict,
            inspect.NamedTupleType: self._record,
            inspect.StructType: self._record,
            inspect.DataclassType: self._record,
            inspect.CustomType: lambda info: _trying(st.from_type(info.cls)),
        }

    def of(self, info: inspect.Type) -> Strategy:
        """Return a strategy for what is described so."""
        if isinstance(info, inspect.Metadata):
            return self.of(info.type)
        for kind, make in self._makers.items():
            if isinstance(info, kind):
                return make(info)
        return st.nothing()  # the codec refuses it

    def _anything(self) -> Strategy:
        scalars = st.none() | st.booleans() | _whole_numbers(inspect.IntType()) | self._texts(inspect.StrType())
        return st.recursive(
            scalars | self._floats(inspect.FloatType()),
            lambda inner: st.lists(inner, max_size=_ITEMS) | st.dictionaries(st.text(), inner, max_size=_ITEMS),
            max_leaves=_ITEMS,
        )

    def _floats(self, info: inspect.FloatType) -> Strategy:
        if info.multiple_of is not None:
            multiple = info.multiple_of
            return _steps(info, multiple, -(2**53), 2**53).map(lambda steps: steps * multiple)
        low = max((limit for limit in (info.ge, info.gt) if limit is not None), default=None)
        high = min((limit for limit in (info.le, info.lt) if limit is not None), default=None)
        odd = self._takes_odd_floats and low is None and high is None
        return st.floats(
            low,
            high,
            allow_nan=odd,
            allow_infinity=odd,
            exclude_min=low is not None and low == info.gt,
            exclude_max=high is not None and high == info.lt,
        )

    def _texts(self, info: inspect.StrType) -> Strategy:
        low, high = info.min_length or 0, info.max_length
        if info.pattern is not None:
            fitting = st.from_regex(info.pattern, alphabet=st.characters(codec="utf-8"))
            return fitting.filter(lambda text: low <= len(text) <= (math.inf if high is None else high))
        return st.text(min_size=low, max_size=self._longest if high is None else high)

    def _bytes(self, info: inspect.BytesType | inspect.ByteArrayType) -> Strategy:
        return st.binary(
            min_size=info.min_length or 0, max_size=self._longest if info.max_length is None else info.max_length
        )

    def _union(self, info: inspect.UnionType) -> Strategy:
        # What is `None` comes first, for hypothesis shows the first that still fails.
        return st.one_of(*map(self.of, sorted(info.types, key=lambda one: not isinstance(one, inspect.NoneType))))

    def _items(self, collected: Callable[..., Strategy], info: inspect.CollectionType) -> Strategy:
        return _sized(info, collected, self.of(info.item_type))

    def _mapping(self, info: inspect.DictType) -> Strategy:
        return _sized(info, st.dictionaries, self.of(info.key_type), self.of(info.value_type))

    def _typed_dict(self, info: inspect.TypedDictType) -> Strategy:
        fields = {field.name: self.of(field.type) for field in info.fields}
        optional = [field.name for field in info.fields if not field.required]
        return st.fixed_dictionaries(
            {name: made for name, made in fields.items() if name not in optional},
            optional={name: fields[name] for name in optional},
        )

    def _record(self, info: _Record) -> Strategy:
        around = self._around[info.cls]
        if around >= _DEPTH:
            return st.nothing()  # a list has no such item then, and of several types it is another one
        key = info.cls, frozenset(self._around.items())
        if key not in self._known:
            self._around[info.cls] = around + 1
            arguments = st.fixed_dictionaries(self._arguments(info))
            self._around[info.cls] = around
            made = st.builds(_made, st.just(info.cls), arguments)
            self._known[key] = st.nothing() if arguments.is_empty else made
        return self._known[key]

    def _arguments(self, info: _Record) -> Mapping[str, Strategy]:
        """Return what the class is made with, by the names of its parameters."""
        fields = {field.name: field.type for field in info.fields}
        if attrs.has(info.cls):
            return {
                attribute.alias or attribute.name: self.of(narrowed(fields[attribute.name], attribute.validator))
                for attribute in attrs.fields(info.cls)
                if attribute.init and attribute.name in fields
            }
        computed = {name for name, field in getattr(info.cls, "__dataclass_fields__", {}).items() if not field.init}
        return {name: self.of(kind) for name, kind in fields.items() if name not in computed}


def _made(cls: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return cls(**arguments)
    except (ValueError, TypeError, ArithmeticError):  # another one is drawn then
        reject()


@st.composite
def _trying(draw: st.DrawFn, strategy: Strategy) -> Any:
    try:
        return draw(strategy)
    except ValueError:
        reject()


def _carries(codec: PayloadCodec, value: float) -> bool:
    try:
        codec.encoder(float)(value)
    except CodecError:
        return False
    return True


def _zones(tz: bool | None) -> st.SearchStrategy[timezone | None]:
    if tz is None:
        return st.none() | _ZONES
    return _ZONES if tz else st.none()


def _sized(
    info: inspect.CollectionType | inspect.DictType, collected: Callable[..., Strategy], *parts: Strategy
) -> Strategy:
    """Return a strategy for collections of these; if there is none of these, for the empty one, where that may be."""
    low = info.min_length or 0
    if any(part.is_empty for part in parts):
        return st.nothing() if low else collected(*parts)
    return collected(*parts, min_size=low, max_size=low + _ITEMS if info.max_length is None else info.max_length)


def _steps(info: _Number, step: float, least: float, most: float) -> st.SearchStrategy[int]:
    """Return a strategy for how many steps there are from 0 to a number within the limits."""
    low = [math.ceil(limit / step) for limit in (info.ge, least) if limit is not None]
    high = [math.floor(limit / step) for limit in (info.le, most) if limit is not None]
    if info.gt is not None:
        low.append(math.floor(info.gt / step) + 1)
    if info.lt is not None:
        high.append(math.ceil(info.lt / step) - 1)
    return st.integers(max(low), min(high))


def _whole_numbers(info: inspect.IntType) -> Strategy:
    step = info.multiple_of or 1
    return _steps(info, step, _LEAST, _MOST).map(lambda steps: steps * step)
