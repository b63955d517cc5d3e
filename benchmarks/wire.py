"""As much of MQTT 3.1.1 as counting and echoing need: neither is any contestant's library, and both cost little."""

from __future__ import annotations

import socket
from collections.abc import Iterator

__all__ = ["PUBACK", "PUBLISH", "Packets", "connect", "disconnect", "puback", "publish", "subscribe"]

_CONNECT, _CONNACK, PUBLISH, PUBACK, _SUBSCRIBE, _SUBACK = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90
_DISCONNECT = 0xE0
_CHUNK = 2**20


def connect(port: int, client_id: str) -> socket.socket:
    """Log in to the broker at that port of 127.0.0.1, with no keepalive (section 3.1.2.10)."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(_packet(_CONNECT, _text("MQTT") + b"\x04\x02\x00\x00" + _text(client_id)))
    if connection.recv(4, socket.MSG_WAITALL) != bytes([_CONNACK, 2, 0, 0]):
        raise RuntimeError(f"the broker at port {port} refused {client_id}")
    connection.settimeout(None)
    return connection


def disconnect(connection: socket.socket) -> None:
    """Take leave, and return when the broker has taken all that was sent before (section 3.14)."""
    connection.sendall(_packet(_DISCONNECT, b""))
    while connection.recv(_CHUNK):
        pass
    connection.close()


def subscribe(connection: socket.socket, topic_filter: str, qos: int) -> None:
    """Subscribe, and wait for the answer; nothing else may be on its way yet."""
    connection.sendall(_packet(_SUBSCRIBE, b"\x00\x01" + _text(topic_filter) + bytes([qos])))
    if connection.recv(5, socket.MSG_WAITALL) != bytes([_SUBACK, 3, 0, 1, qos]):
        raise RuntimeError(f"the broker refused the subscription to {topic_filter}")


def publish(topic: str, payload: bytes, packet_id: int = 0) -> bytes:
    """Encode a PUBLISH at QoS 1, or at QoS 0 without a packet id."""
    number = packet_id.to_bytes(2, "big") if packet_id else b""
    return _packet(PUBLISH | (2 if packet_id else 0), _text(topic) + number + payload)


def puback(packet_id: bytes) -> bytes:
    return _packet(PUBACK, packet_id)


class Packets:
    """Cuts what comes from a socket into packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._wanted = 2

    def read(self, connection: socket.socket) -> bool:
        """Wait for more; `False` at the end of the stream."""
        chunk = connection.recv(_CHUNK)
        self._buffer += chunk
        return bool(chunk)

    def feed(self, chunk: bytes) -> None:
        self._buffer += chunk

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """First byte and rest of each packet that is complete, fixed header left out (section 2.2)."""
        buffer, start, end = self._buffer, 0, len(self._buffer)
        if end < self._wanted:  # of a large packet, which comes in many chunks
            return
        self._wanted = 2
        while start + 2 <= end:
            length, body, shift = 0, start + 1, 0
            while body < end:
                digit = buffer[body]
                length |= (digit & 0x7F) << shift
                shift += 7
                body += 1
                if digit < 0x80:
                    break
            else:
                break
            if body + length > end:
                self._wanted = body + length - start
                break
            yield buffer[start], bytes(buffer[body : body + length])
            start = body + length
        del buffer[:start]


def _packet(first: int, rest: bytes) -> bytes:
    header, length = bytearray([first]), len(rest)
    while True:
        length, digit = length >> 7, length & 0x7F
        header.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(header) + rest


def _text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded
