"""Reads the validators of attrs, so that few of the values that are generated are refused by them.

attrs has no names for their classes, but for what they were given. What is not known here still has the last word, when
the object is made.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

__all__ = ["narrowed"]

T = TypeVar("T", bound=msgspec.Struct)

_NUMBERS = inspect.IntType | inspect.FloatType
_LIMITS = {">=": ("ge", max), ">": ("gt", max), "<=": ("le", min), "<": ("lt", min)}
_MATCHES = {"match": r"\A(?:{})", "fullmatch": r"\A(?:{})\Z", "search": "{}"}


def narrowed(info: inspect.Type, validator: Any) -> inspect.Type:
    """Return the description of what is described so and passes the validator, as far as that can be said."""
    if validator is None:
        return info
    if isinstance(info, inspect.Metadata):
        return _with(info, type=narrowed(info.type, validator))
    if hasattr(validator, "_validators"):  # and_(), or a list of them
        for one in validator._validators:
            info = narrowed(info, one)
        return info
    if hasattr(validator, "validator") and not hasattr(validator, "exc_types"):  # optional(), but not not_()
        return narrowed(info, validator.validator)
    if hasattr(validator, "options"):  # in_()
        return inspect.LiteralType(tuple(validator.options))
    if isinstance(info, inspect.UnionType):
        return _with(info, types=tuple(narrowed(one, validator) for one in info.types))
    if isinstance(info, _NUMBERS) and getattr(validator, "compare_op", None) in _LIMITS:
        name, tighter = _LIMITS[validator.compare_op]
        return _limited(info, name, tighter, validator.bound)
    if hasattr(info, "min_length"):
        if hasattr(validator, "min_length"):
            return _limited(info, "min_length", max, validator.min_length)
        if hasattr(validator, "max_length"):
            return _limited(info, "max_length", min, validator.max_length)
    if isinstance(info, inspect.StrType) and hasattr(validator, "match_func"):  # matches_re()
        pattern, how = validator.pattern, validator.match_func.__name__
        return _with(info, pattern=re.compile(_MATCHES[how].format(pattern.pattern), pattern.flags))
    if hasattr(info, "item_type") and hasattr(validator, "member_validator"):  # deep_iterable()
        narrower = narrowed(info, validator.iterable_validator)
        return _with(narrower, item_type=narrowed(info.item_type, validator.member_validator))
    return info


def _limited(info: T, name: str, tighter: Any, limit: Any) -> T:
    before = getattr(info, name)
    return _with(info, **{name: limit if before is None else tighter(before, limit)})


def _with(info: T, **changed: Any) -> T:
    return msgspec.structs.replace(info, **changed)
