"""An independent subscriber and an independent publisher, whose sessions last: what a test knows of the other side.

They share no code with the gateway, neither ours nor the protocol stack's, and go on whatever happens to the broker.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence

import attrs
import trio
from trio_util import AsyncValue

from tests.brokers.packets import (
    CONNACK,
    CONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    Packet,
    packet,
    publish,
    split,
    text,
)

__all__ = ["Listener", "Talker", "open_listener", "open_talker"]

_PAUSE = 0.02  # seconds between two tries to connect
_CHUNK = 65_536
_INFLIGHT = 20_000  # messages of a talker


class _Lost(Exception):
    """The connection is over."""


def _each(ports: int | Sequence[int]) -> Iterator[int]:
    """The ports to try, for ever: the nodes of a cluster in turn."""
    return itertools.cycle([ports] if isinstance(ports, int) else ports)


async def _connect(port: int, client_id: str) -> trio.SocketStream:
    """Send CONNECT for a session that lasts; no keepalive, since on loopback the end of a broker is seen at once."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    try:
        await stream.send_all(packet(CONNECT, text("MQTT") + bytes([4, 0, 0, 0]) + text(client_id)))
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _packets(stream: trio.SocketStream) -> AsyncGenerator[list[Packet], None]:
    rest = b""
    async for data in stream:
        found, rest = split(rest + data)
        yield found
    raise _Lost


class Listener:
    """Hears filters, each at its QoS; at QoS 2 by the whole exchange, so that what comes twice was sent twice."""

    def __init__(self, filters: Mapping[str, int]) -> None:
        self.heard: defaultdict[str, list[bytes]] = defaultdict(list)
        """The payloads of each topic, in the order in which they came."""
        self.subscribed = AsyncValue(0)
        """The number of times it was connected and subscribed."""
        self.changes = AsyncValue(0)
        self._filters = dict(filters)
        self._client_id = f"listener-{uuid.uuid4().hex[:12]}"
        self._halfway = set[bytes]()  # packet ids of QoS 2 that were received and not yet released

    async def until_heard(self, topic: str, payload: bytes, seconds: float = 30) -> None:
        """Wait until this payload was the last to come on the topic."""
        with trio.move_on_after(seconds) as scope:
            await self.changes.wait_value(lambda _: self.heard[topic][-1:] == [payload])
        if scope.cancelled_caught:
            last = self.heard[topic][-3:]
            raise AssertionError(f"{payload!r} did not come on {topic} within {seconds} s; last came {last}")

    async def serve(self, ports: int | Sequence[int]) -> None:
        """Listen, connecting again and again. Runs until cancelled."""
        for port in _each(ports):
            with contextlib.suppress(OSError, trio.BrokenResourceError, _Lost):
                async with await _connect(port, self._client_id) as stream:
                    wanted = b"".join(text(name) + bytes([qos]) for name, qos in self._filters.items())
                    await stream.send_all(packet(SUBSCRIBE, b"\0\1" + wanted))
                    async with contextlib.aclosing(_packets(stream)) as arriving:
                        async for packets in arriving:
                            await stream.send_all(b"".join([self._take(found) for found in packets]))
                            self.changes.value += 1
            await trio.sleep(_PAUSE)

    def _take(self, found: Packet) -> bytes:
        """Take a packet in; return the answer to it."""
        if found.kind == CONNACK:
            if found.body[1] == 3:  # server unavailable
                raise _Lost
            assert found.body[1] == 0, f"the broker refused the listener: {found.body!r}"
            if not found.body[0]:
                self._halfway.clear()
        elif found.kind == SUBACK:
            assert found.body[2] < 0x80, "the broker refused the listener's subscription"
            self.subscribed.value += 1
        elif found.kind == PUBREL:
            self._halfway.discard(found.body[:2])
            return packet(PUBCOMP, found.body[:2])
        elif found.kind == PUBLISH:
            message = found.published()
            if message.qos == 2:
                if message.packet_id not in self._halfway:
                    self._halfway.add(message.packet_id)
                    self.heard[message.topic].append(message.payload)
                return packet(PUBREC, message.packet_id)
            self.heard[message.topic].append(message.payload)
            if message.qos == 1:
                return packet(PUBACK, message.packet_id)
        return b""


@attrs.define(eq=False)
class _Sent:
    topic: str
    payload: bytes
    qos: int
    received: bool = False  # PUBREC has come


class Talker:
    """Publishes so that at QoS 1 nothing is lost, and at QoS 2 nothing comes twice either: what the broker gets."""

    def __init__(self) -> None:
        self._queue = deque[tuple[str, bytes, int]]()
        self._more = trio.Event()
        self._inflight: dict[int, _Sent] = {}
        self._next_id = 0
        self._client_id = f"talker-{uuid.uuid4().hex[:12]}"
        self.unacknowledged = AsyncValue(0)

    def say(self, topic: str, payload: bytes, qos: int) -> None:
        """Queue it; what is queued is published in order."""
        self._queue.append((topic, payload, qos))
        self.unacknowledged.value += 1
        self._more.set()

    async def until_acknowledged(self, seconds: float = 30) -> None:
        """Wait until the broker has all."""
        with trio.fail_after(seconds):
            await self.unacknowledged.wait_value(0)

    async def serve(self, ports: int | Sequence[int]) -> None:
        """Publish, connecting again and again. Runs until cancelled."""
        for port in _each(ports):
            try:
                async with await _connect(port, self._client_id) as stream, trio.open_nursery() as nursery:
                    turn = trio.Lock()
                    nursery.start_soon(self._hear, stream, turn)
                    nursery.start_soon(self._talk, stream, turn)
            except* (OSError, trio.BrokenResourceError, _Lost):
                pass
            await trio.sleep(_PAUSE)

    async def _talk(self, stream: trio.SocketStream, turn: trio.Lock) -> None:
        again = [
            packet(PUBREL, number.to_bytes(2))
            if sent.received
            else publish(sent.topic, sent.payload, sent.qos, number, dup=True)
            for number, sent in self._inflight.items()
        ]
        async with turn:
            await stream.send_all(b"".join(again))
        while True:
            self._more = trio.Event()
            while self._queue and len(self._inflight) < _INFLIGHT:
                batch = b""
                while self._queue and len(batch) < _CHUNK:
                    topic, payload, qos = self._queue.popleft()
                    if qos:
                        self._next_id = self._next_id % 65_000 + 1
                        self._inflight[self._next_id] = _Sent(topic, payload, qos)
                    else:
                        self.unacknowledged.value -= 1
                    batch += publish(topic, payload, qos, self._next_id)
                async with turn:
                    await stream.send_all(batch)
            await self._more.wait()

    async def _hear(self, stream: trio.SocketStream, turn: trio.Lock) -> None:
        async with contextlib.aclosing(_packets(stream)) as arriving:
            async for packets in arriving:
                done, answers = 0, b""
                for found in packets:
                    number = int.from_bytes(found.body[:2])
                    if found.kind in (PUBACK, PUBCOMP):
                        done += self._inflight.pop(number, None) is not None
                    elif found.kind == PUBREC:
                        if number in self._inflight:
                            self._inflight[number].received = True
                        answers += packet(PUBREL, found.body[:2])
                self.unacknowledged.value -= done
                self._more.set()
                if answers:
                    async with turn:
                        await stream.send_all(answers)


@contextlib.asynccontextmanager
async def open_listener(ports: int | Sequence[int], filters: Mapping[str, int]) -> AsyncIterator[Listener]:
    """Subscribed when the block begins."""
    listener = Listener(filters)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve, ports)
        with trio.fail_after(10):
            await listener.subscribed.wait_value(lambda times: times > 0)
        yield listener
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def open_talker(ports: int | Sequence[int]) -> AsyncIterator[Talker]:
    talker = Talker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(talker.serve, ports)
        yield talker
        nursery.cancel_scope.cancel()
