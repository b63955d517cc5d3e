"""Message types: what they are made of, by msgspec's description, and which fields they have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, get_type_hints

import msgspec

from taktora_trio.channels.models import is_model
from taktora_trio.errors import ConfigError, summary

__all__ = ["MessageField", "fields_of", "has_models", "inspect_type", "parts_of"]


class MessageField(msgspec.Struct, frozen=True):
    """A field of a message type."""

    name: str
    encode_name: str
    """Its name in a payload."""
    type: Any
    """Its type, as `inspect_type` describes it."""


def inspect_type(message_type: Any) -> msgspec.inspect.Type:
    """Return msgspec's description of a message type. Raises `ConfigError` for one that it can't make messages of."""
    try:
        return msgspec.inspect.type_info(message_type)
    except Exception as exc:  # annotations are evaluated, and may raise anything
        raise ConfigError(f"messages can't be of type {message_type!r}: {summary(exc)}") from exc


def parts_of(info: object, seen: set[int]) -> Iterator[msgspec.inspect.Type]:
    """Yield a type and all that it is made of, each once."""
    if isinstance(info, tuple):
        for part in info:
            yield from parts_of(part, seen)
    elif isinstance(info, msgspec.Struct) and id(info) not in seen:
        seen.add(id(info))
        if isinstance(info, msgspec.inspect.Type):
            yield info
        for name in info.__struct_fields__:
            yield from parts_of(getattr(info, name), seen)


def has_models(message_type: Any) -> bool:
    """Return whether messages are pydantic models, or have some in them. Raises `ConfigError`."""
    if "pydantic" not in sys.modules or message_type in (str, bytes, bool, int, float):
        return False  # without msgspec's descriptions, which are then never imported
    parts = parts_of(inspect_type(message_type), set())
    return any(isinstance(part, msgspec.inspect.CustomType) and is_model(part.cls) for part in parts)


def fields_of(message_type: Any) -> tuple[MessageField, ...] | None:
    """Return the fields that a payload has by their names; `None` for a type without. Raises `ConfigError`."""
    info = inspect_type(message_type)
    if isinstance(info, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
        by_position = isinstance(info, msgspec.inspect.StructType) and info.array_like
        names = [str(n) if by_position else field.encode_name for n, field in enumerate(info.fields)]
        return tuple(MessageField(one.name, name, one.type) for one, name in zip(info.fields, names, strict=True))
    if is_model(message_type):
        hints = get_type_hints(message_type, include_extras=True)
        return tuple(
            MessageField(name, _alias(field) or name, inspect_type(hints[name]))
            for name, field in message_type.model_fields.items()
        )
    return None


def _alias(field: Any) -> str | None:
    """Return the name by which a model reads its field, if that is another one; a model that is sent writes it, too."""
    return field.validation_alias if isinstance(field.validation_alias, str) else None
