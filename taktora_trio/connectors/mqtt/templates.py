"""Topic templates: `plant/{unit}/setpoint`, whose `{unit}` is a field of the message.

An outbound topic is made of the fields; of an inbound message the fields are read from the topic.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar, get_type_hints

import msgspec

from taktora_trio.channels.message_types import fields_of
from taktora_trio.connectors.mqtt.topics import UNSENDABLE
from taktora_trio.errors import CodecError, ConfigError

__all__ = ["Template", "parse_template"]

T = TypeVar("T")

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
# Characters that one topic level can't hold, and for which a receiver may close the connection.
_BAD_LEVEL = re.compile(f"[/+#]|{UNSENDABLE}")


class Template(msgspec.Struct, frozen=True):
    """A topic or filter with fields of the message at some of its levels, or with none."""

    levels: tuple[str, ...]
    """The declared levels, with `+` in place of each field."""
    fields: tuple[tuple[int, str], ...]
    """For each field its level, counted from 0, and its name."""

    @property
    def topic_filter(self) -> str:
        """The filter that matches every topic of this template."""
        return "/".join(self.levels)

    def filler(self, message_type: type[T]) -> Callable[[T], str]:
        """Return a function that makes a message's topic. Raises `ConfigError` for a type without these fields.

        The function raises `CodecError` for a value that can't be one level of a topic: an empty one, or one with
        `/`, `+`, `#`, or a character that no topic may have.
        """
        _types_of(message_type, self.fields)

        def fill(message: T) -> str:
            levels = list(self.levels)
            for index, name in self.fields:
                levels[index] = _level(name, getattr(message, name), first=index == 0)
            return "/".join(levels)

        return fill

    def parser(self, message_type: type) -> Callable[[str], dict[str, object]]:
        """Return a function that reads the fields from a topic, each converted to its type. Raises as `filler` does."""
        types = _types_of(message_type, self.fields)

        def parse(topic: str) -> dict[str, object]:
            levels = topic.split("/")
            if len(levels) <= self.fields[-1][0]:  # nothing that the filter matches
                raise CodecError(f"the topic has no level for {self.fields[-1][1]!r}")
            return {name: _field(name, levels[index], types[name]) for index, name in self.fields}

        return parse


def parse_template(text: str) -> Template:
    """Parse a declared topic. Raises `ConfigError` for a brace that is no field, or a field that comes twice."""
    levels = text.split("/")
    fields: dict[str, int] = {}
    for index, level in enumerate(levels):
        if "{" not in level and "}" not in level:
            continue
        found = _FIELD.fullmatch(level)
        if not found:
            raise ConfigError(
                f"topic {text!r}: {level!r} is no field of a message: it must be the whole level, such as {{unit}}"
            )
        name = found[1]
        if name in fields:
            raise ConfigError(f"topic {text!r}: the field {name!r} can only stand at one level")
        fields[name] = index
        levels[index] = "+"
    return Template(tuple(levels), tuple((index, name) for name, index in fields.items()))


def _types_of(message_type: type, fields: tuple[tuple[int, str], ...]) -> dict[str, Any]:
    """Return the declared type of each field. Raises `ConfigError`."""
    known = fields_of(message_type) if isinstance(message_type, type) else None
    if known is None:
        raise ConfigError(
            f"messages of type {message_type!r} have no fields for the topic: use an attrs class, a dataclass or a"
            " msgspec struct, and a codec that writes its fields"
        )
    kinds = {field.name: field.type for field in known}
    described = msgspec.inspect  # which most processes never import
    come_back_as_sent = described.StrType | described.IntType | described.BoolType | described.EnumType
    hints = get_type_hints(message_type, include_extras=True)
    for _, name in fields:
        if name not in kinds:
            raise ConfigError(f"{message_type.__name__} has no field {name!r} for the topic; it has {', '.join(kinds)}")
        if not isinstance(kinds[name], come_back_as_sent):
            raise ConfigError(
                f"{message_type.__name__}.{name} is {hints[name]!r}: a field for the topic is a str, int, bool or enum"
            )
    return {name: hints[name] for _, name in fields}


def _level(name: str, value: object, *, first: bool) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        try:
            return str(value)
        except ValueError as exc:  # thousands of digits
            raise CodecError(f"field {name!r} can't stand in a topic: {exc}") from exc
    if not isinstance(value, str):
        raise CodecError(f"field {name!r} is {value!r}: only a str, int, bool or enum can stand in a topic")
    if not value or _BAD_LEVEL.search(value) or (first and value[0] == "$"):
        raise CodecError(
            f"field {name!r} is {value[:80]!r}: one level of a topic has at least one character, no '/', '+', '#', no"
            " control character, and does not begin with '$' if it is the first"
        )
    return value


def _field(name: str, level: str, kind: Any) -> object:
    try:
        return msgspec.convert(level, kind, strict=False)
    except (msgspec.ValidationError, ValueError) as exc:
        raise CodecError(f"level {level!r} of the topic is no {name!r}: {exc}") from exc
