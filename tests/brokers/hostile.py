"""A broker that plays a script on each connection, and breaks the rules in it; after the last one it is a real one.

Each script is an async function of a `Peer`; the connection is closed when it returns.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

import attrs
import trio
from trio_util import AsyncValue

from tests.brokers.packets import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Packet,
    length_of,
    packet,
    split,
    text,
)

__all__ = [
    "INBOUND",
    "OUTBOUND",
    "SCRIPTS",
    "HostileBroker",
    "Peer",
    "Script",
    "echo_connect",
    "open_hostile_broker",
    "refuse_with_its_own_words",
    "relay",
]

INBOUND = "hostile/in"
"""The topic that the gateway under test is to subscribe to, at QoS 2."""
OUTBOUND = "hostile/out"
"""The topic that it is to publish on, at QoS 1."""
_CHUNK = 65_536


class Gone(Exception):
    """The client has closed the connection, which is what most of it deserves."""


class Peer:
    """The client, as its broker sees it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._rest = b""
        self._packets: list[Packet] = []
        self.is_v5 = False
        self.falsely_acknowledged: list[bytes] = []
        """Payloads that were answered by a packet that is no answer to them."""

    async def send(self, *data: bytes) -> None:
        try:
            await self._stream.send_all(b"".join(data))
        except trio.BrokenResourceError:
            raise Gone from None

    async def read(self, kind: int) -> Packet:
        """Return the next packet of this kind; others before it are passed over."""
        while True:
            while self._packets:
                found = self._packets.pop(0)
                if found.kind == kind:
                    return found
            try:
                data = await self._stream.receive_some(_CHUNK)
            except trio.BrokenResourceError:
                raise Gone from None
            if not data:
                raise Gone
            packets, self._rest = split(self._rest + data)
            self._packets += packets

    async def until_gone(self) -> None:
        """Say nothing more, until the client has had enough."""
        await self.read(DISCONNECT)

    async def connect(self) -> None:
        """Read CONNECT."""
        self.is_v5 = (await self.read(CONNECT)).body[6] == 5

    @property
    def no_properties(self) -> bytes:
        """As MQTT 5 writes it; MQTT 3.1.1 has none."""
        return b"\0" if self.is_v5 else b""

    def connack(self, code: int = 0, present: int = 0) -> bytes:
        return packet(CONNACK, bytes([present, code]) + self.no_properties)

    def suback(self, asked: Packet) -> bytes:
        """QoS 2 for each filter that was asked for."""
        start, filters = 2 + len(self.no_properties), 0
        while start < len(asked.body):
            start += 2 + int.from_bytes(asked.body[start : start + 2]) + 1
            filters += 1
        return packet(SUBACK, asked.body[:2] + self.no_properties + b"\2" * filters)

    def publish(
        self, topic: bytes, payload: bytes, qos: int = 0, packet_id: int = 1, flags: int | None = None
    ) -> bytes:
        number = packet_id.to_bytes(2) if qos else b""
        body = len(topic).to_bytes(2) + topic + number + self.no_properties + payload
        return packet(PUBLISH, body, flags=qos << 1 if flags is None else flags)

    async def accept(self) -> None:
        """CONNECT, CONNACK, SUBSCRIBE, SUBACK: from here on the gateway is `Up`."""
        await self.connect()
        await self.send(self.connack())
        await self.send(self.suback(await self.read(SUBSCRIBE)))


Script: TypeAlias = Callable[[Peer], Awaitable[None]]


async def _close_at_once(peer: Peer) -> None:
    await trio.lowlevel.checkpoint()


async def _close_after_connect(peer: Peer) -> None:
    await peer.connect()


async def _never_answer(peer: Peer) -> None:
    await peer.connect()
    await peer.until_gone()


async def _answer(data: bytes, peer: Peer) -> None:
    """Answer CONNECT with this; then close."""
    await peer.connect()
    await peer.send(data)
    await _linger(peer)


async def _two_connacks(peer: Peer) -> None:
    await peer.connect()
    await peer.send(peer.connack() * 2)
    await _linger(peer)


async def _no_suback(peer: Peer) -> None:
    await peer.connect()
    await peer.send(peer.connack())
    await peer.until_gone()


async def _suback(codes: bytes | None, add_to_id: int, peer: Peer) -> None:
    await peer.connect()
    await peer.send(peer.connack())
    asked = await peer.read(SUBSCRIBE)
    number = (int.from_bytes(asked.body[:2]) + add_to_id) & 0xFFFF
    codes = b"\2" if codes is None else codes
    await peer.send(packet(SUBACK, number.to_bytes(2) + peer.no_properties + codes))
    await _linger(peer)


async def _suback_before_connack(peer: Peer) -> None:
    await peer.connect()
    await peer.send(packet(SUBACK, b"\0\1" + peer.no_properties + b"\2"), peer.connack())
    await _linger(peer)


async def _say(data: bytes, peer: Peer) -> None:
    """Be a good broker until the gateway is `Up`, then say this."""
    await peer.accept()
    await peer.send(data)
    await _linger(peer)


async def _publish(topic: bytes, payload: bytes, flags: int, packet_id: int | None, peer: Peer) -> None:
    await peer.accept()
    number = b"" if packet_id is None else packet_id.to_bytes(2)
    body = len(topic).to_bytes(2) + topic + number + peer.no_properties + payload
    await peer.send(packet(PUBLISH, body, flags=flags))
    await _linger(peer)


async def _in_the_middle(part: int, peer: Peer) -> None:
    """Close after the first bytes of a packet."""
    await peer.accept()
    await peer.send(peer.publish(INBOUND.encode(), b"x" * 1000, qos=1)[:part])


async def _acknowledge_otherwise(kind: int, peer: Peer) -> None:
    """Answer what is published by QoS 1 with this instead of PUBACK."""
    await peer.accept()
    while (published := (await peer.read(PUBLISH)).published()).topic != OUTBOUND:
        pass
    peer.falsely_acknowledged.append(published.payload.removeprefix(peer.no_properties))
    await peer.send(packet(kind, published.packet_id))
    await _linger(peer)


async def _one_byte_at_a_time(peer: Peer) -> None:
    """Slow, but right."""
    await peer.connect()
    for byte in peer.connack():
        await peer.send(bytes([byte]))
        await trio.sleep(0.002)
    for byte in peer.suback(await peer.read(SUBSCRIBE)):
        await peer.send(bytes([byte]))
        await trio.sleep(0.002)


async def _huge(sent: int, peer: Peer) -> None:
    """Announce the largest packet there can be, and send so much of it."""
    await peer.accept()
    await peer.send(bytes([PUBLISH << 4]), length_of(268_435_455), text(INBOUND))
    for _ in range(sent // _CHUNK):
        await peer.send(b"x" * _CHUNK)


async def _no_pingresp(peer: Peer) -> None:
    await peer.accept()
    await peer.read(PINGREQ)
    await peer.until_gone()


async def _linger(peer: Peer) -> None:
    """Stay for a while: a client that minds goes meanwhile, one that thinks nothing of it stays."""
    with trio.move_on_after(0.1):
        await peer.until_gone()


def _scripts() -> dict[str, Script]:
    found: dict[str, Script] = {
        "closes at once": _close_at_once,
        "closes after CONNECT": _close_after_connect,
        "never answers": _never_answer,
        "CONNACK is garbage": partial(_answer, bytes(range(255, 127, -1))),
        "CONNACK is text": partial(_answer, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "CONNACK is cut off": partial(_answer, b"\x20\x02\x00"),
        "CONNACK is empty": partial(_answer, b"\x20\x00"),
        "CONNACK is too long": partial(_answer, packet(CONNACK, bytes(100))),
        "CONNACK has a code that does not exist": partial(_answer, packet(CONNACK, b"\0\x4d")),
        "CONNACK has flags": partial(_answer, packet(CONNACK, b"\0\0", flags=15)),
        "CONNACK is a SUBACK": partial(_answer, packet(SUBACK, b"\0\1\2")),
        "CONNACK is a PUBLISH": partial(_answer, packet(PUBLISH, text(INBOUND) + b"early")),
        "CONNACK has an endless length": partial(_answer, b"\x20\xff\xff\xff\xff\xff\xff"),
        "CONNACK comes twice": _two_connacks,
        "SUBACK never comes": _no_suback,
        "SUBACK has another id": partial(_suback, None, 1),
        "SUBACK has no codes": partial(_suback, b"", 0),
        "SUBACK has too many codes": partial(_suback, b"\2" * 100, 0),
        "SUBACK has a code that does not exist": partial(_suback, b"\x33", 0),
        "SUBACK comes before CONNACK": _suback_before_connack,
        "PUBLISH of QoS 3": partial(_publish, INBOUND.encode(), b"x", 6, 1),
        "PUBLISH with id 0": partial(_publish, INBOUND.encode(), b"x", 2, 0),
        "PUBLISH without a topic": partial(_publish, b"", b"x", 0, None),
        "PUBLISH with a wildcard": partial(_publish, b"hostile/+", b"x", 0, None),
        "PUBLISH with a topic that is not UTF-8": partial(_publish, b"hostile/\xff\xfe", b"x", 0, None),
        "PUBLISH with a null character": partial(_publish, b"hostile/\0", b"x", 0, None),
        "PUBLISH to what was not subscribed": partial(_publish, b"elsewhere", b"x", 2, 7),
        "PUBLISH of a topic longer than itself": partial(_say, packet(PUBLISH, b"\xff\xffab")),
        "PUBLISH of nothing": partial(_say, packet(PUBLISH)),
        "PUBLISH cut off in its length": partial(_in_the_middle, 2),
        "PUBLISH cut off in its topic": partial(_in_the_middle, 9),
        "PUBLISH cut off in its payload": partial(_in_the_middle, 700),
        "PUBLISH too large for the channel": partial(_publish, INBOUND.encode(), b"x" * 5000, 2, 8),
        "PUBLISH of 256 MiB, of which a little comes": partial(_huge, 2**20),
        "an endless length": partial(_say, b"\x30\x80\x80\x80\x80\x80\x80\x80\x01"),
        "one byte at a time, but right": _one_byte_at_a_time,
        "PUBREC for a message of QoS 1": partial(_acknowledge_otherwise, PUBREC),
        "PUBCOMP for a message of QoS 1": partial(_acknowledge_otherwise, PUBCOMP),
        "SUBACK for a message of QoS 1": partial(_acknowledge_otherwise, SUBACK),
        "PINGRESP never comes": _no_pingresp,
        "garbage": partial(_say, bytes(range(256))),
    }
    for name, kind in (("PUBACK", PUBACK), ("PUBREC", PUBREC), ("PUBREL", PUBREL), ("PUBCOMP", PUBCOMP)):
        found[f"{name} for an id that was never used"] = partial(_say, packet(kind, b"\x9c\x40"))
        found[f"{name} of one byte"] = partial(_say, packet(kind, b"\x01"))
        found[f"{name} of nothing"] = partial(_say, packet(kind))
    for name, kind in (
        ("CONNECT", CONNECT),
        ("SUBSCRIBE", SUBSCRIBE),
        ("UNSUBSCRIBE", UNSUBSCRIBE),
        ("PINGREQ", PINGREQ),
        ("PINGRESP that nobody asked for", PINGRESP),
        ("DISCONNECT", DISCONNECT),
        ("a packet of kind 0", 0),
        ("a packet of kind 15", 15),
    ):
        found[f"{name} from a broker"] = partial(_say, packet(kind, b""))
    return found


SCRIPTS = _scripts()


@attrs.define
class HostileBroker:
    port: int
    scripts: Sequence[Script]
    """One for each connection, in turn."""
    real_port: int | None = None
    """The port to which connections go after the last script; without it the last one is repeated."""
    connects: list[float] = attrs.field(factory=list)
    """The time at which each connection came, by the monotonic clock."""
    count: AsyncValue[int] = attrs.field(factory=lambda: AsyncValue(0))
    """The number of those."""
    falsely_acknowledged: list[bytes] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def until_connected(self, times: int, seconds: float = 30) -> None:
        with trio.fail_after(seconds):
            await self.count.wait_value(lambda count: count >= times)

    async def serve_connection(self, stream: trio.SocketStream) -> None:
        number = len(self.connects)
        self.connects.append(time.monotonic())
        self.count.value += 1
        if number >= len(self.scripts) and self.real_port is not None:
            await relay(stream, self.real_port)
            return
        peer = Peer(stream)
        with contextlib.suppress(Gone):
            await self.scripts[min(number, len(self.scripts) - 1)](peer)
        self.falsely_acknowledged += peer.falsely_acknowledged


async def relay(client: trio.abc.Stream, port: int) -> None:
    """Be the server on this port, until either side has closed."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as server, trio.open_nursery() as nursery:

        async def pump(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                async for data in source:
                    await sink.send_all(data)
            nursery.cancel_scope.cancel()

        nursery.start_soon(pump, client, server)
        nursery.start_soon(pump, server, client)


@contextlib.asynccontextmanager
async def open_hostile_broker(scripts: Sequence[Script], real_port: int | None = None) -> AsyncIterator[HostileBroker]:
    """Run one on a free port of loopback while the block lasts."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        broker = HostileBroker(listeners[0].socket.getsockname()[1], scripts, real_port)
        nursery.start_soon(trio.serve_listeners, broker.serve_connection, listeners)
        yield broker
        nursery.cancel_scope.cancel()


async def echo_connect(peer: Peer) -> None:
    """Answer with what the client has said, its password among it."""
    asked = await peer.read(CONNECT)
    await peer.send(packet(asked.kind, asked.body))
    await _linger(peer)


async def refuse_with_its_own_words(peer: Peer) -> None:
    """Refuse, with what the client has said as the reason (MQTT 5, section 3.2.2.3.9), or behind the code."""
    asked = await peer.read(CONNECT)
    said = asked.body[-60:]
    if asked.body[6] == 5:
        properties = b"\x1f" + len(said).to_bytes(2) + said
        await peer.send(packet(CONNACK, b"\0\x88" + length_of(len(properties)) + properties))
    else:
        await peer.send(packet(CONNACK, b"\0\x03" + said))
    await _linger(peer)
