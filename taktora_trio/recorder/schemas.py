"""The JSON Schemas of a recording: of each channel's messages, with the value as the app has declared it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.plan import channel_name
from taktora_trio.declare.schemas import PREFIX, Schema, make_schemas

__all__ = ["NO_VALUES", "message_schema", "schemas_of"]

NO_VALUES: Schema = {}
"""The schema of values of which nothing is known."""
_DEFINITIONS = "#/$defs/"
_REFERENCE = re.compile(f'"{re.escape(PREFIX)}([^"]+)"')
_BASE64 = {"type": "string", "contentEncoding": "base64"}
_BESIDE: Schema = {
    "payload": {**_BASE64, "description": "The payload, where the value is not the payload itself"},
    "error": {"type": "string", "description": "Why the payload could not be decoded"},
    "topic": {"type": "string"},
    "number": {"type": "integer", "description": "Counts the channel's messages"},
    "boottime_ns": {"type": "integer", "description": "CLOCK_BOOTTIME at its sending"},
    "correlation_id": _BASE64,
    "metadata": {
        "type": "object",
        "properties": {
            "content_type": {"type": "string"},
            "response_topic": {"type": "string"},
            "message_expiry": {"type": "integer"},
            "user_properties": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        },
    },
    "retained": {"type": "boolean"},
    "redelivered": {"type": "boolean"},
}


def schemas_of(connectors: Iterable[Connector]) -> dict[str, bytes]:
    """Return the schema of each channel, by its whole name: see `channel_name`."""
    channels = [(one, channel) for one in connectors for channel in one.channels]
    known = [(one, channel) for one, channel in channels if one.codec.has_schema]
    values, definitions = make_schemas([(channel.direction, channel.message_type) for _, channel in known])
    by_name = {channel_name(*each): value for each, value in zip(known, values, strict=True)}
    return {
        channel_name(*each): message_schema(by_name.get(channel_name(*each), NO_VALUES), definitions)
        for each in channels
    }


def message_schema(value: Schema, definitions: Mapping[str, Schema] | None = None) -> bytes:
    """Return the schema of messages with such a value, as it is written."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"value": value, **_BESIDE},
        "required": ["number"],
    }
    if used := _used(value, definitions or {}):
        schema["$defs"] = used
    return msgspec.json.encode(schema).replace(PREFIX.encode(), _DEFINITIONS.encode())


def _used(schema: Schema, definitions: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return those definitions that a schema refers to, or that another one of them does."""
    used: dict[str, Schema] = {}
    left = [schema]
    while left:
        for name in _REFERENCE.findall(msgspec.json.encode(left.pop()).decode()):
            if name in definitions and name not in used:
                used[name] = definitions[name]
                left.append(definitions[name])
    return used
