"""The independent subscriber of MQTT: it shares no code with the gateway, neither ours nor a library's.

So much of MQTT 3.1.1 as it takes to hear one topic at QoS 1, for as long as there is a broker.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec
import trio

from taktora_trio.chaos.app import Numbered
from taktora_trio.chaos.subscriber import Subscriber

__all__ = ["MqttSubscriber", "open_subscriber", "split_packets"]

_PAUSE = 0.02  # seconds between two tries to connect


class _Refused(Exception):
    """The broker does not want us, or what it says is not MQTT."""


class MqttSubscriber(Subscriber):
    """Listens to one topic of a broker."""

    async def serve(self, port: int, topic: str) -> None:
        """Subscribe, again and again. Runs until cancelled."""
        while True:
            with contextlib.suppress(OSError, trio.BrokenResourceError, _Refused):
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    await self._listen(stream, topic)
            await trio.sleep(_PAUSE)

    async def _listen(self, stream: trio.SocketStream, topic: str) -> None:
        # No keepalive: on loopback the end of a broker is seen at once.
        await stream.send_all(_packet(0x10, _text("MQTT") + bytes([4, 2, 0, 0]) + _text("chaos-subscriber")))
        await stream.send_all(_packet(0x82, b"\0\1" + _text(topic) + b"\1"))
        rest = b""
        async for chunk in stream:
            packets, rest = split_packets(rest + chunk)
            answers = b"".join([self._take(kind, body) for kind, body in packets])
            self.changes.value += 1
            await stream.send_all(answers)

    def _take(self, kind: int, body: bytes) -> bytes:
        """Work off a packet; return what is to be answered."""
        match kind & 0xF0:
            case 0x20 if body[1] != 0:
                raise _Refused
            case 0x90:
                if body[2] & 0x80:
                    raise _Refused
                self.connections.value += 1
            case 0x30:
                start = 2 + int.from_bytes(body[:2])
                acknowledged = b""
                if kind & 0x06:
                    acknowledged = _packet(0x40, body[start : start + 2])
                    start += 2
                message = msgspec.json.decode(body[start:], type=Numbered)
                self.tally.add(message.series, message.number)
                return acknowledged
        return b""


def _text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(2) + encoded


def _packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 128, "of longer packets we send none"
    return bytes([kind, len(body)]) + body


def split_packets(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Return the complete packets, each with its first byte, and the rest (section 2.2.3: the remaining length)."""
    packets: list[tuple[int, bytes]] = []
    start = 0
    while True:
        length, at = 0, start + 1
        for shift in (0, 7, 14, 21):
            if at >= len(data):
                return packets, data[start:]
            length |= (data[at] & 0x7F) << shift
            at += 1
            if not data[at - 1] & 0x80:
                break
        if at + length > len(data):
            return packets, data[start:]
        packets.append((data[start], data[at : at + length]))
        start = at + length


@contextlib.asynccontextmanager
async def open_subscriber(port: int, topic: str) -> AsyncIterator[MqttSubscriber]:
    """Listen while the block lasts; subscribed when it begins."""
    subscriber = MqttSubscriber()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscriber.serve, port, topic)
        await subscriber.wait_until_subscribed(1, 10)
        yield subscriber
        nursery.cancel_scope.cancel()
