"""Validators for attrs fields that an app declares. Each raises `ConfigError` with the field and what it may be.

`bool` is no number here, though it is an `int`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, TypeAlias

import attrs

from taktora_trio.errors import ConfigError

__all__ = [
    "YEAR",
    "as_path",
    "field_name",
    "flag",
    "instance_of",
    "is_async_function",
    "one_of",
    "optional",
    "seconds",
    "whole_number",
]

_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE
YEAR = 366 * 24 * 3600  # seconds
Validator: TypeAlias = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def field_name(instance: object, attribute: attrs.Attribute[Any]) -> str:
    """Return how messages begin: `RestartPolicy: period`."""
    return f"{type(instance).__name__}: {attribute.name}"


def optional(check: Validator) -> Validator:
    """Allow `None`, and what `check` allows."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is not None:
            check(instance, attribute, value)

    return validate


def whole_number(least: int, most: int | None = None) -> Validator:
    """Allow an `int` from `least` to `most`."""
    allowed = f"of at least {least}" if most is None else f"from {least} to {most}"

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not is_number or value < least or (most is not None and value > most):  # type: ignore[operator]
            raise ConfigError(f"{field_name(instance, attribute)} is {value!r}; it must be a whole number {allowed}")

    return validate


def seconds(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Allow a number of more than 0, and of no more than clocks and sockets can do with."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= YEAR:  # type: ignore[operator]
        name = field_name(instance, attribute)
        raise ConfigError(f"{name} is {value!r}; it must be a number of seconds, more than 0 and at most a year")


def flag(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Allow `True` and `False`."""
    if not isinstance(value, bool):
        raise ConfigError(f"{field_name(instance, attribute)} is {value!r}; use True or False")


def instance_of(kind: type) -> Validator:
    """Allow an object of this class."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kind):
            name = field_name(instance, attribute)
            raise ConfigError(f"{name} is of type {type(value).__name__}; it must be a {kind.__name__}")

    return validate


def one_of(*allowed: object) -> Validator:
    """Allow one of these values, of the same type: 1 is not `True`."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not any(type(value) is type(choice) and value == choice for choice in allowed):
            names = [repr(choice) for choice in allowed]
            listed = f"{', '.join(names[:-1])} or {names[-1]}"
            raise ConfigError(f"{field_name(instance, attribute)} is {value!r}; use {listed}")

    return validate


def as_path(value: str | Path | None) -> Path | None:
    """Return the value as a path. The file itself is looked at when it is needed."""
    if value is None:
        return None
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ConfigError(f"{value!r} is no path of a file")
    return Path(value)


def is_async_function(value: object) -> bool:
    """`inspect.iscoroutinefunction`, which is asked only about what is no plain function or method.

    For with it comes 1 MB of modules, which a process may need for nothing else.
    """
    function = value.__func__ if isinstance(value, MethodType) else value
    if isinstance(function, FunctionType) and not vars(function):
        return bool(function.__code__.co_flags & _CO_COROUTINE)
    from inspect import iscoroutinefunction

    return iscoroutinefunction(value)
