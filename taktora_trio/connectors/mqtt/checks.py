"""Validators for attrs fields that MQTT sends; they work as those in `taktora_trio/checks.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from taktora_trio.checks import field_name
from taktora_trio.connectors.mqtt.topics import check_text
from taktora_trio.errors import ConfigError

__all__ = ["binary", "mqtt_string", "protocol_names"]


def mqtt_string(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Allow a str that MQTT can send as a UTF-8 string (MQTT 5, section 1.5.4)."""
    name = field_name(instance, attribute)
    if not isinstance(value, str):
        raise ConfigError(f"{name} is {value!r}; it must be a str")
    check_text(name, value)


def binary(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Allow bytes that MQTT can send as binary data (MQTT 5, section 1.5.6). The error does not show them."""
    name = field_name(instance, attribute)
    if not isinstance(value, bytes):
        raise ConfigError(f"{name} is of type {type(value).__name__}; it must be bytes")
    if len(value) > 65_535:
        raise ConfigError(f"{name} has {len(value)} bytes; MQTT ends at 65535")


def protocol_names(instance: object, attribute: attrs.Attribute[Any], value: Sequence[object]) -> None:
    """Allow names that TLS can offer: of 1 to 255 ASCII characters each (RFC 7301, section 3.1), 65535 bytes in all."""
    name = field_name(instance, attribute)
    for one in value:
        if not isinstance(one, str) or not one.isascii() or not 1 <= len(one) <= 255:
            raise ConfigError(f"{name} has {str(one)[:80]!r}; a protocol's name has 1 to 255 ASCII characters")
    if sum(len(str(one)) + 1 for one in value) > 65_535:
        raise ConfigError(f"{name} has more names than TLS can offer at once")
