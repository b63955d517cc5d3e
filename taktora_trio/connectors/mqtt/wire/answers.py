"""Decodes a broker's answers to what a client has sent: acknowledgements, SUBACK and UNSUBACK. Pure."""

from __future__ import annotations

from taktora_trio.connectors.mqtt.wire.packets import SUBACK, Malformed, decode_properties, unpack_u16

__all__ = ["decode_ack", "decode_suback"]


def decode_ack(name: str, data: bytes, start: int, stop: int, version: int) -> tuple[int, int]:
    """Return the packet identifier and the reason code of a PUBACK, PUBREC, PUBREL or PUBCOMP (sections 3.4 to 3.7)."""
    length = stop - start
    if length < 2 or (version != 5 and length != 2):
        raise Malformed(f"a {name} with {length} bytes")
    return unpack_u16(data, start)[0], data[start + 2] if length > 2 else 0


def decode_suback(kind: int, data: bytes, start: int, stop: int, version: int, count: int) -> tuple[int, bytes]:
    """Return the packet identifier of a SUBACK or UNSUBACK, and a reason code for each of `count` filters.

    An UNSUBACK of MQTT 3.1.1 has no codes: all of them are then 0 (sections 3.9 and 3.11).
    """
    name = "SUBACK" if kind == SUBACK else "UNSUBACK"
    if stop - start < 2:
        raise Malformed(f"a {name} with {stop - start} bytes")
    packet_id: int = unpack_u16(data, start)[0]
    position = start + 2
    if version == 5:
        _, position = decode_properties(data, position, stop)
    codes = data[position:stop]
    if kind != SUBACK and version != 5 and not codes:
        codes = bytes(count)
    if len(codes) != count:
        raise Malformed(f"a {name} with {len(codes)} answers to {count} filters")
    highest_success = 2 if kind == SUBACK else 0x11  # the QoS granted; "No subscription existed"
    if any(highest_success < code < 0x80 for code in codes):
        raise Malformed(f"a {name} with an answer that does not exist")
    return packet_id, codes
