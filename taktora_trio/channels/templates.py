"""Topic templates: `plant/{unit}/setpoint`, whose `{unit}` is a field of the message.

An outbound topic is made of the fields; of an inbound message the fields are read from the topic. A protocol says by a
`TemplateSyntax` what it calls these things, and how it writes wildcards.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar, get_type_hints

import msgspec

from taktora_trio.channels.message_types import fields_of
from taktora_trio.errors import CodecError, ConfigError

__all__ = ["Template", "TemplateSyntax"]

T = TypeVar("T")

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class TemplateSyntax(msgspec.Struct, frozen=True, kw_only=True):
    """How a protocol writes the topics whose levels, with `/` between them, may be fields of the message."""

    topic: str
    """What it calls a topic."""
    level: str
    """What it calls a level of it."""
    one: str
    """Its wildcard for any one level."""
    several: str
    """Its wildcard for any number of levels."""
    bad: re.Pattern[str]
    """Found in a text that can't be a level, or that the wildcard `one` does not match. None is empty."""
    bad_first: re.Pattern[str]
    """The same for the first level."""
    rule: str
    """What a level has and has not, for people: "at least one character, no '/'"."""

    def parse(self, text: str) -> Template:
        """Parse a declared topic. Raises `ConfigError` for a brace that is no field, or a field that comes twice.

        Between two wildcards for several levels there is no telling which level a field is: that is refused, too.
        """
        levels = text.split("/")
        first_several = levels.index(self.several) if self.several in levels else len(levels)
        last_several = len(levels) - levels[::-1].index(self.several) - 1 if self.several in levels else -1
        fields: dict[str, int] = {}
        for index, level in enumerate(levels):
            if "{" not in level and "}" not in level:
                continue
            found = _FIELD.fullmatch(level)
            if not found:
                raise ConfigError(
                    f"{self.topic} {text!r}: {level!r} is no field of a message: it must be the whole {self.level},"
                    " such as {unit}"
                )
            name = found[1]
            if name in fields:
                raise ConfigError(f"{self.topic} {text!r}: the field {name!r} can only stand at one {self.level}")
            if first_several < index < last_several:
                raise ConfigError(
                    f"{self.topic} {text!r}: the field {name!r} stands between two {self.several!r}, so which"
                    f" {self.level} it is can't be told: leave one of them out"
                )
            fields[name] = index if index < first_several else index - len(levels)
            levels[index] = self.one
        return Template(self, tuple(levels), tuple((index, name) for name, index in fields.items()))


class Template(msgspec.Struct, frozen=True):
    """A topic or pattern with fields of the message at some of its levels, or with none."""

    syntax: TemplateSyntax
    levels: tuple[str, ...]
    """The declared levels, with a wildcard in place of each field."""
    fields: tuple[tuple[int, str], ...]
    """For each field its level and its name. Levels are counted from 0; behind a wildcard for several, from the end."""

    @property
    def pattern(self) -> str:
        """The pattern that matches every topic of this template."""
        return "/".join(self.levels)

    def filler(self, message_type: type[T]) -> Callable[[T], str]:
        """Return a function that makes a message's topic. Raises `ConfigError` for a type without these fields.

        The function raises `CodecError` for a value that can't be one level of a topic.
        """
        syntax = self.syntax
        _types_of(message_type, self.fields, syntax.topic)
        fields = [(index, name, (syntax.bad if index else syntax.bad_first).search) for index, name in self.fields]

        def fill(message: T) -> str:
            levels = list(self.levels)
            for index, name, is_bad in fields:
                level = _text(name, getattr(message, name), syntax)
                if not level or is_bad(level):
                    raise CodecError(
                        f"field {name!r} is {level[:80]!r}: one {syntax.level} of a {syntax.topic} has {syntax.rule}"
                    )
                levels[index] = level
            return "/".join(levels)

        return fill

    def parser(self, message_type: type) -> Callable[[str], dict[str, object]]:
        """Return a function that reads the fields from a topic, each converted to its type. Raises as `filler` does."""
        syntax = self.syntax
        types = _types_of(message_type, self.fields, syntax.topic)
        least = len(self.levels) - self.levels.count(syntax.several)

        def parse(topic: str) -> dict[str, object]:
            levels = topic.split("/")
            if len(levels) < least:  # nothing that the pattern matches
                raise CodecError(f"the {syntax.topic} has no {syntax.level} for {self.fields[-1][1]!r}")
            return {name: _field(name, levels[index], types[name], syntax) for index, name in self.fields}

        return parse


def _types_of(message_type: type, fields: tuple[tuple[int, str], ...], topic: str) -> dict[str, Any]:
    """Return the declared type of each field. Raises `ConfigError`."""
    known = fields_of(message_type) if isinstance(message_type, type) else None
    if known is None:
        raise ConfigError(
            f"messages of type {message_type!r} have no fields for the {topic}: use an attrs class, a dataclass or a"
            " msgspec struct, and a codec that writes its fields"
        )
    kinds = {field.name: field.type for field in known}
    described = msgspec.inspect  # which most processes never import
    come_back_as_sent = described.StrType | described.IntType | described.BoolType | described.EnumType
    hints = get_type_hints(message_type, include_extras=True)
    for _, name in fields:
        if name not in kinds:
            raise ConfigError(
                f"{message_type.__name__} has no field {name!r} for the {topic}; it has {', '.join(kinds)}"
            )
        if not isinstance(kinds[name], come_back_as_sent):
            raise ConfigError(
                f"{message_type.__name__}.{name} is {hints[name]!r}: a field for the {topic} is a str, int, bool or"
                " enum"
            )
    return {name: hints[name] for _, name in fields}


def _text(name: str, value: object, syntax: TemplateSyntax) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        try:
            return str(value)
        except ValueError as exc:  # thousands of digits
            raise CodecError(f"field {name!r} can't stand in a {syntax.topic}: {exc}") from exc
    if not isinstance(value, str):
        raise CodecError(f"field {name!r} is {value!r}: only a str, int, bool or enum can stand in a {syntax.topic}")
    return value


def _field(name: str, level: str, kind: Any, syntax: TemplateSyntax) -> object:
    if syntax.one in level:  # where messages may go to a pattern, and so to all that match it
        raise CodecError(f"{syntax.level} {level!r} of the {syntax.topic} is a wildcard, and no {name!r}")
    try:
        return msgspec.convert(level, kind, strict=False)
    except (msgspec.ValidationError, ValueError) as exc:
        raise CodecError(f"{syntax.level} {level!r} of the {syntax.topic} is no {name!r}: {exc}") from exc
