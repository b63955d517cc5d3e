"""Encodes the control packets that a client sends, and decodes PUBLISH and properties. Pure; for MQTT 3.1.1 and 5.

Written from the standards' sections 2 and 3. Decoding raises `Malformed` for whatever they do not allow, and no other
exception.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from taktora_trio.channels import Metadata
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.errors import ConnectorError

__all__ = [
    "CONNACK",
    "DISCONNECT",
    "PINGREQ",
    "PINGRESP",
    "PUBACK",
    "PUBCOMP",
    "PUBLISH",
    "PUBREC",
    "PUBREL",
    "SUBACK",
    "UNSUBACK",
    "Malformed",
    "connect",
    "decode_properties",
    "decode_publish",
    "encode_properties",
    "iter_u16_pairs",
    "pack_u16",
    "packet",
    "string",
    "subscribe",
    "unpack_u16",
    "unsubscribe",
    "varint",
]

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 2, 3, 4, 5, 6, 7
SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 9, 11, 13, 14
PINGREQ = b"\xc0\x00"
_NOTHING = Metadata()
_MOST_PROPERTIES = 2**17  # bytes in a PUBLISH that are decoded, into 30 times as many; a channel takes up to 65,535
# Options of a subscription (MQTT 5, section 3.8.3.1).
NOT_OWN = 1 << 2  # nothing that the client itself has published
AS_PUBLISHED = 1 << 3  # with the retain flag that the message was published with
_RETAINED_ONCE = 1 << 4  # retain handling: send what is retained if the subscription is new
NOTHING_RETAINED = 2 << 4  # and the same: send nothing that is retained
_U16, _U32 = Struct(">H"), Struct(">I")
pack_u16, unpack_u16, iter_u16_pairs = _U16.pack, _U16.unpack_from, Struct(">HH").iter_unpack


class Malformed(ConnectorError):
    """The peer sent what MQTT does not allow."""


def varint(value: int) -> bytes:
    """Encode a variable byte integer (MQTT 5, section 1.5.5)."""
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def string(value: str) -> bytes:
    """Encode a UTF-8 string, its length in front (section 1.5.4)."""
    return binary(value.encode())


def binary(value: bytes) -> bytes:
    return _U16.pack(len(value)) + value


def packet(first: int, *parts: bytes) -> bytes:
    """Make a whole packet: its first byte, its remaining length, and its parts."""
    body = b"".join(parts)
    return bytes((first,)) + varint(len(body)) + body


def connect(options: MqttOptions, client_id: str) -> bytes:
    """Encode CONNECT (section 3.1)."""
    v5, clean = options.protocol == "5", not options.persistent
    broker, will = options.broker, options.will
    flags = 0x02 if clean else 0
    payload = [string(client_id)]
    if will is not None:
        flags |= 0x04 | will.qos << 3 | (0x20 if will.retain else 0)
        payload += [b"\0"] if v5 else []
        payload += [string(will.topic), binary(will.payload)]
    if broker.username is not None:
        flags |= 0x80
        payload.append(string(broker.username))
    if broker.password is not None:
        flags |= 0x40
        payload.append(binary(broker.password))
    properties = b""
    if v5:
        given = b"" if options.receive_maximum is None else b"\x21" + _U16.pack(options.receive_maximum)
        if options.session_expiry and not clean:
            given += b"\x11" + _U32.pack(options.session_expiry)
        properties = varint(len(given)) + given
    head = string("MQTT") + bytes((5 if v5 else 4, flags)) + _U16.pack(options.keepalive)
    return packet(0x10, head, properties, *payload)


def subscribe(version: int, packet_id: int, filters: list[tuple[str, int]]) -> bytes:
    """Encode SUBSCRIBE (section 3.8). With MQTT 5 a QoS may have other options beside it, instead of ours."""
    parts = [_U16.pack(packet_id), b"\0" if version == 5 else b""]
    options = _RETAINED_ONCE if version == 5 else 0
    for topic_filter, qos in filters:
        parts += [string(topic_filter), bytes((qos | options if qos < NOT_OWN else qos,))]
    return packet(0x82, *parts)


def unsubscribe(version: int, packet_id: int, filters: list[str]) -> bytes:
    """Encode UNSUBSCRIBE (section 3.10)."""
    return packet(0xA2, _U16.pack(packet_id), b"\0" if version == 5 else b"", *map(string, filters))


def encode_properties(metadata: Metadata | None, correlation_data: bytes) -> bytes:
    """Encode the properties of a PUBLISH, their length in front (section 3.3.2.3)."""
    parts = []
    if correlation_data:
        parts.append(b"\x09" + binary(correlation_data))
    if metadata is not None:
        _encode_metadata(metadata, parts)
    encoded = b"".join(parts)
    return varint(len(encoded)) + encoded


def _encode_metadata(metadata: Metadata, parts: list[bytes]) -> None:
    if metadata.message_expiry is not None:
        parts.append(b"\x02" + _U32.pack(metadata.message_expiry))
    if metadata.content_type:
        parts.append(b"\x03" + string(metadata.content_type))
    if metadata.response_topic:
        parts.append(b"\x08" + string(metadata.response_topic))
    for name, value in metadata.user_properties:
        parts.append(b"\x26" + string(name) + string(value))


def decode_publish(data: bytes, first: int, start: int, end: int, version: int) -> Message:
    """Decode the PUBLISH whose variable header is at `start` (section 3.3).

    If its properties are larger than any channel takes, they and the payload are left out (`Message.skipped`).
    """
    if start + 2 > end:
        raise Malformed("a PUBLISH without a topic")
    topic_start = start + 2
    position = topic_start + (data[start] << 8 | data[start + 1])
    qos = first >> 1 & 3
    packet_id = 0
    if qos:
        if qos == 3 or position + 2 > end:
            raise Malformed("a PUBLISH with QoS 3 or without its packet identifier")
        packet_id = data[position] << 8 | data[position + 1]
        if not packet_id:
            raise Malformed("a PUBLISH with packet identifier 0")
    elif position > end:
        raise Malformed("a PUBLISH with a topic longer than itself")
    try:
        topic = str(data[topic_start:position], "utf-8")
    except UnicodeDecodeError as exc:
        raise Malformed(f"a topic is not UTF-8: {exc}") from exc
    if qos:
        position += 2
    metadata, correlation_data = None, b""
    if not topic:
        raise Malformed("a PUBLISH with an empty topic")
    if version == 5:
        if position < end and data[position] == 0:
            position += 1
        elif _varint_at(data, position, end)[0] > _MOST_PROPERTIES:
            # Not an end of the session: the broker may have it from any client, and would send it again.
            return Message(
                topic,
                b"",
                qos,
                reliable=qos > 0,
                redelivered=first & 8 == 8,
                delivery_id=packet_id,
                order=qos,
                retained=first & 1 == 1,
                skipped=end - position,
            )
        else:
            properties, position = decode_properties(data, position, end)
            metadata, correlation_data = _metadata_of(properties), properties.get(0x09, b"")
            if 0x23 in properties:
                raise Malformed("a topic alias, though none was allowed")
    if metadata is None and not correlation_data:  # most messages: what has its default costs time, too
        payload = data[position:end]
        if first == 0x30:
            return Message(topic, payload)
        return Message(
            topic,
            payload,
            qos,
            reliable=qos > 0,
            redelivered=first & 8 == 8,
            delivery_id=packet_id,
            order=qos,
            retained=first & 1 == 1,
        )
    return Message(
        topic,
        data[position:end],
        qos,
        reliable=qos > 0,
        redelivered=first & 8 == 8,
        delivery_id=packet_id,
        order=qos,
        retained=first & 1 == 1,
        metadata=metadata,
        correlation_id=correlation_data,
    )


def _metadata_of(properties: dict[int, Any]) -> Metadata | None:
    """Return `None` if there are no properties but the correlation data."""
    metadata = Metadata(
        properties.get(0x03, ""),
        properties.get(0x08, ""),
        properties.get(0x02),
        tuple(properties.get(0x26, ())),
    )
    return metadata if metadata != _NOTHING else None


# Identifiers of properties by the form of their values (section 2.2.2.2).
_BYTE = frozenset({0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A})
_TWO_BYTES = frozenset({0x13, 0x21, 0x22, 0x23})
_FOUR_BYTES = frozenset({0x02, 0x11, 0x18, 0x27})
_STRING = frozenset({0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F})
_BINARY = frozenset({0x09, 0x16})
_VARINT, _PAIR = 0x0B, 0x26


def decode_properties(data: bytes, position: int, end: int) -> tuple[dict[int, Any], int]:
    """Return the properties by identifier, and the position behind them.

    User properties and subscription identifiers are lists, since they may come more than once.
    """
    length, position = _varint_at(data, position, end)
    stop = position + length
    if stop > end:
        raise Malformed("properties longer than their packet")
    found: dict[int, Any] = {}
    while position < stop:
        identifier = data[position]
        position += 1
        value: Any
        if identifier == _PAIR:
            name, position = _string_at(data, position, stop)
            value, position = _string_at(data, position, stop)
            found.setdefault(identifier, []).append((name, value))
            continue
        if identifier == _VARINT:
            value, position = _varint_at(data, position, stop)
            found.setdefault(identifier, []).append(value)
            continue
        if identifier in _STRING:
            value, position = _string_at(data, position, stop)
        elif identifier in _BINARY:
            value, position = _binary_at(data, position, stop)
        else:
            size = 1 if identifier in _BYTE else 2 if identifier in _TWO_BYTES else 4
            if size == 4 and identifier not in _FOUR_BYTES:
                raise Malformed(f"an unknown property 0x{identifier:02x}")
            if position + size > stop:
                raise Malformed("a property longer than its packet")
            value = int.from_bytes(data[position : position + size], "big")
            position += size
        if identifier in found:
            raise Malformed(f"property 0x{identifier:02x} twice")
        found[identifier] = value
    return found, stop


def _varint_at(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in (0, 7, 14, 21):
        if position >= end:
            raise Malformed("a length is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise Malformed("a length of more than four bytes")


def _binary_at(data: bytes, position: int, end: int) -> tuple[bytes, int]:
    if position + 2 > end:
        raise Malformed("a length is cut off")
    start = position + 2
    stop = start + (data[position] << 8 | data[position + 1])
    if stop > end:
        raise Malformed("a string longer than its packet")
    return data[start:stop], stop


def _string_at(data: bytes, position: int, end: int) -> tuple[str, int]:
    encoded, position = _binary_at(data, position, end)
    try:
        return str(encoded, "utf-8"), position
    except UnicodeDecodeError as exc:
        raise Malformed(f"a string is not UTF-8: {exc}") from exc
