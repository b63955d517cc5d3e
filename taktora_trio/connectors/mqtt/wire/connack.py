"""The broker's answer to CONNECT (section 3.2)."""

from __future__ import annotations

from typing import Any

import msgspec

from taktora_trio.connectors.mqtt.wire.limits import NO_LIMITS, BrokerLimits, limits_of
from taktora_trio.connectors.mqtt.wire.packets import Malformed, decode_properties
from taktora_trio.connectors.mqtt.wire.reasons import CONNECT_RETURN_CODES, reason_name

__all__ = ["Connack", "decode_connack"]


class Connack(msgspec.Struct, frozen=True):
    code: int
    """A reason code of MQTT 5."""
    name: str
    session_present: bool
    limits: BrokerLimits = NO_LIMITS
    server_reference: str = ""
    """The server that the broker names instead of itself (MQTT 5, section 3.2.2.3.16)."""


def decode_connack(data: bytes, start: int, stop: int, version: int) -> Connack:
    """Decode the CONNACK whose variable header is at `start`. Raises `Malformed`."""
    length = stop - start
    if length < 2 or data[start] > 1 or (version != 5 and length != 2):
        raise Malformed("a CONNACK with wrong flags or a wrong length")
    code, name = _reason(data[start + 1], length, version)
    properties: dict[int, Any] = {}
    if version == 5 and length > 2:
        properties, end = decode_properties(data, start + 2, stop)
        if end != stop:
            raise Malformed("a CONNACK with something behind its properties")
    try:
        limits = limits_of(properties) if version == 5 else NO_LIMITS
    except ValueError as exc:
        raise Malformed(str(exc)) from None
    return Connack(code, name, bool(data[start]), limits, properties.get(0x1C, ""))


def _reason(code: int, length: int, version: int) -> tuple[int, str]:
    """Return the reason code of MQTT 5 and its name. A broker without MQTT 5 answers with a return code of 3.1.1."""
    if code in CONNECT_RETURN_CODES and (version != 5 or length == 2):
        code = CONNECT_RETURN_CODES[code]
    elif version != 5 and code:
        return 0x80, f"return code {code}"
    elif 0 < code < 0x80:
        raise Malformed(f"a CONNACK with the code {code}, which does not exist")
    return code, reason_name(code)
