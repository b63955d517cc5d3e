"""Large payloads go to the broker from where the app has put them: whoever is killed meanwhile, none is garbled."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
from collections import defaultdict, deque

import trio

from taktora_trio import ConnectorHost, Deployment, MqttConnector, MqttOptions, MqttRouting, Outbound, RawCodec
from taktora_trio.transport.domain import Domain
from tests.brokers.packets import CONNACK, CONNECT, PINGREQ, PUBACK, PUBLISH, Packet, packet, split
from tests.command import open_command

SIZE, WINDOW = 2**18, 10  # both channels together hold more than a socket does
TOPICS = ("large/0", "large/1")
CHANNELS = [
    Outbound(f"qos{qos}", bytes, MqttRouting(topic, qos=qos), max_payload=SIZE, window=WINDOW)  # type: ignore[arg-type]
    for qos, topic in enumerate(TOPICS)
]


def payload(pid: int, number: int) -> bytes:
    """Return what nobody else sends, and which says what it is to be."""
    head = b"%d %d " % (pid, number)
    return head + random.Random(head).randbytes(SIZE - len(head))


async def flood(host: ConnectorHost) -> None:
    async with host.open_writer(CHANNELS[0]) as zero, host.open_writer(CHANNELS[1]) as one:
        for number in itertools.count():
            for writer in (zero, one):
                await writer.send(payload(os.getpid(), number))
            if number == WINDOW - 1:
                print("full", flush=True)  # noqa: T201 - the test reads it


deployment = Deployment(
    "large", flood, [MqttConnector(CHANNELS, codec=RawCodec(), options=MqttOptions(presence=None, keepalive=600))]
)


class Heard:
    """The numbers that came, by topic and process; each was as it was sent."""

    def __init__(self) -> None:
        self.numbers: defaultdict[tuple[str, int], list[int]] = defaultdict(list)

    def take(self, arrived: Packet) -> bytes:
        """Check this message, and return the answer."""
        message = arrived.published()
        pid, number, _ = message.payload.split(b" ", 2)
        assert message.payload == payload(int(pid), int(number)), "it is garbled"
        self.numbers[message.topic, int(pid)].append(int(number))
        return packet(PUBACK, message.packet_id) if message.qos else b""


class Reader:
    """A broker's end of a connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._packets = deque[Packet]()
        self._rest = b""

    async def read(self, kind: int) -> Packet:
        """Return the next packet of this kind, which is all that comes but PINGREQ."""
        while not self._packets:
            self._rest += await self._stream.receive_some(2**20)
            packets, self._rest = split(self._rest)
            self._packets.extend(one for one in packets if one.kind != PINGREQ)
        assert self._packets[0].kind == kind
        return self._packets.popleft()

    async def begin(self, count: int) -> None:
        """Read so many bytes of the first message, and then no more."""
        while len(self._rest) < count:
            self._rest += await self._stream.receive_some(count - len(self._rest))


async def test_each_half_is_killed_while_the_broker_has_stalled_in_the_middle_of_a_payload(domain: Domain) -> None:
    heard = Heard()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
    broker = f"mqtt://127.0.0.1:{listener.socket.getsockname()[1]}"

    def options(half: str) -> tuple[str, ...]:
        return half, f"{__name__}:deployment", "--broker", broker, "--domain", domain.name

    async def accept() -> tuple[trio.SocketStream, Reader]:
        stream = await listener.accept()
        reader = Reader(stream)
        await reader.read(CONNECT)
        await stream.send_all(packet(CONNACK, b"\0\0"))
        return stream, reader

    async def answer_until(number: int, stream: trio.SocketStream, reader: Reader) -> None:
        """Answer until this message of the second app has come."""
        while number not in heard.numbers["large/1", second.pid]:
            await stream.send_all(heard.take(await reader.read(PUBLISH)))

    async def answer(stream: trio.SocketStream, reader: Reader) -> None:
        async with stream:
            await answer_until(3 * WINDOW, stream, reader)
            enough.set()
            await answer_until(-1, stream, reader)

    enough = trio.Event()
    with trio.fail_after(60):
        async with listener, open_command(*options("gateway")) as gateway:
            async with open_command(*options("plugin")) as first:
                stream, reader = await accept()
                await reader.begin(SIZE // 2)
                await first.until_printed("full")  # what has no room in the socket lies in its memory, and there alone
                first.signal(signal.SIGKILL)
                await first.wait()
            async with open_command(*options("plugin")) as second:
                await second.until_printed("full")
                async with stream:
                    for _ in range(5):
                        heard.take(await reader.read(PUBLISH))  # nothing is acknowledged
                stream, reader = await accept()
                async with stream:
                    await answer_until(2 * WINDOW, stream, reader)  # by then the first one's are acknowledged
                    gateway.signal(signal.SIGKILL)
                    await gateway.wait()
                async with open_command(*options("gateway")) as successor:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(answer, *await accept())
                        await enough.wait()
                        second.signal(signal.SIGTERM)
                        await second.wait()
                        nursery.cancel_scope.cancel()
                    successor.signal(signal.SIGTERM)
                    await successor.wait()
    for pid, least in ((first.pid, WINDOW), (second.pid, 3 * WINDOW)):
        numbers = heard.numbers["large/1", pid]
        assert sorted(set(numbers)) == list(range(max(numbers) + 1)), "one is lost"
        assert max(numbers) >= least - 1
