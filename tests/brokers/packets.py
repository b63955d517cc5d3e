"""So much of MQTT 3.1.1 as it takes to play a broker, or a client, by hand. It shares no code with the gateway's."""

from __future__ import annotations

import attrs

from taktora_trio.chaos.mqtt.subscriber import split_packets

__all__ = [
    "CONNACK",
    "CONNECT",
    "DISCONNECT",
    "PINGREQ",
    "PINGRESP",
    "PUBACK",
    "PUBCOMP",
    "PUBLISH",
    "PUBREC",
    "PUBREL",
    "SUBACK",
    "SUBSCRIBE",
    "UNSUBACK",
    "UNSUBSCRIBE",
    "Packet",
    "Published",
    "length_of",
    "packet",
    "publish",
    "split",
    "text",
]

# The upper four bits of a packet's first byte (section 2.2.1).
CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = range(8, 15)


@attrs.frozen
class Published:
    """A PUBLISH packet, taken apart (section 3.3)."""

    topic: str
    payload: bytes
    qos: int
    packet_id: bytes
    """Two bytes; none at QoS 0."""
    dup: bool


@attrs.frozen
class Packet:
    first: int
    """Its first byte: type and flags."""
    body: bytes

    @property
    def kind(self) -> int:
        return self.first >> 4

    def published(self) -> Published:
        assert self.kind == PUBLISH
        qos = self.first >> 1 & 3
        start = 2 + int.from_bytes(self.body[:2])
        after = start + (2 if qos else 0)
        return Published(
            self.body[2:start].decode(), self.body[after:], qos, self.body[start:after], bool(self.first & 8)
        )


def text(value: str) -> bytes:
    """Section 1.5.3."""
    encoded = value.encode()
    return len(encoded).to_bytes(2) + encoded


def length_of(size: int) -> bytes:
    """Encode a remaining length (section 2.2.3)."""
    encoded = b""
    while True:
        size, digit = divmod(size, 128)
        encoded += bytes([digit | 0x80 if size else digit])
        if not size:
            return encoded


def packet(kind: int, body: bytes = b"", flags: int | None = None) -> bytes:
    """Return a whole packet. Its flags are those that the kind must have, or else the given ones (section 2.2.2)."""
    if flags is None:
        flags = 2 if kind in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else 0
    return bytes([kind << 4 | flags]) + length_of(len(body)) + body


def publish(topic: str, payload: bytes, qos: int = 0, packet_id: int = 1, *, dup: bool = False) -> bytes:
    number = packet_id.to_bytes(2) if qos else b""
    return packet(PUBLISH, text(topic) + number + payload, flags=qos << 1 | dup << 3)


def split(data: bytes) -> tuple[list[Packet], bytes]:
    """Return the packets that are complete, and the bytes that are left."""
    packets, rest = split_packets(data)
    return [Packet(first, body) for first, body in packets], rest
