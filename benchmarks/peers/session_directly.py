"""The gateway's session, used directly by a trio program: no shared memory, no second process, no envelope."""

from __future__ import annotations

import itertools
import math
import os
import time

import trio

from benchmarks import message
from benchmarks.peers.control import (
    Came,
    Done,
    Flood,
    Hello,
    Inflow,
    Paced,
    Sent,
    Setting,
    Times,
    Trips,
    decode_order,
    encode,
    setting,
)
from benchmarks.peers.pace import pace_in_trio
from taktora_trio import MqttOptions
from taktora_trio.connectors.mqtt.options import BrokerAddress
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.connectors.mqtt.sessions.session import Session
from taktora_trio.connectors.mqtt.topics import FilterTree
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.processes.lines import read_lines

__all__: list[str] = []


class _Window:
    """Publishes up to so many messages that are not acknowledged."""

    def __init__(self, session: Session, size: int) -> None:
        self._session = session
        self._size = size
        self._packet_ids = itertools.cycle(range(1, 2 * size + 1))  # acknowledgements come in order
        self._free = size
        self._changed = trio.Event()

    async def publish(self, item: Message) -> None:
        if not self._free:
            await self._wait()
        self._free -= 1
        self._session.publish(item, next(self._packet_ids), self._done)

    async def wait_until_empty(self) -> None:
        while self._free < self._size:
            await self._wait()

    async def _wait(self) -> None:
        self._changed = trio.Event()
        await self._changed.wait()

    def _done(self, packet_id: int, refusal: str) -> None:
        self._free += 1
        self._changed.set()


class _Inflow:
    """Matches inbound messages as the gateway does, and counts them."""

    def __init__(self, told: Setting) -> None:
        self._tree = FilterTree((told.inflow_filter(number), number) for number in range(told.filters))
        self._count = 0
        self._due = 0
        self._came = trio.Event()
        self._at = 0

    def take(self, topic: str) -> None:
        if len(self._tree.match(topic)) != 1:
            raise RuntimeError(f"{topic} matches another number of filters than one")
        self._count += 1
        if self._count == self._due:
            self._at = time.monotonic_ns()
            self._came.set()

    async def wait_for(self, count: int) -> int:
        """Return the time at which the message of that number came."""
        self._due, self._came = count, trio.Event()
        await self._came.wait()
        return self._at


async def run(told: Setting) -> None:
    """Follow orders until there are no more."""
    send, answers = trio.open_memory_channel[bytes](math.inf)
    options = MqttOptions(
        broker=BrokerAddress("127.0.0.1", told.port), session=told.session, client_id=told.name, persistent=False
    )
    inflow = _Inflow(told)

    def take(item: Message) -> None:
        if item.topic == told.pong:
            send.send_nowait(item.payload)
        else:
            inflow.take(item.topic)
        session.acknowledge(item)

    async with open_session(options, take) as session:
        await session.subscribe({told.pong: 1, **{told.inflow_filter(number): 1 for number in range(told.filters)}})
        window = _Window(session, told.window)
        async with await trio.open_unix_socket(told.socket) as control:
            await control.send_all(encode(Hello([os.getpid()])))
            async for line in read_lines(control, unfinished=False):
                match decode_order(line):
                    case Flood(qos, first, count, length):
                        topic, end = told.topic(qos), first + count - 1
                        for number in range(first, end + 1):
                            payload = message.text(number, last=number == end, length=length)
                            await window.publish(Message(topic, payload, qos))
                        await window.wait_until_empty()
                        await control.send_all(encode(Done()))
                    case Paced(qos) as order:
                        topic = told.paced_topic(qos)
                        publish = lambda payload: window.publish(Message(topic, payload, qos))  # noqa: B023, E731
                        await control.send_all(encode(Sent(await pace_in_trio(order, publish))))
                    case Inflow(count):
                        await control.send_all(encode(Came(await inflow.wait_for(count))))
                    case Trips(count, length):
                        times = []
                        for number in range(count):
                            payload = message.text(number, length=length)
                            start = time.perf_counter_ns()
                            await window.publish(Message(told.ping, payload, 1))
                            answer = await answers.receive()
                            times.append(time.perf_counter_ns() - start)
                            message.check_answer(answer, payload)
                        await control.send_all(encode(Times(times)))


if __name__ == "__main__":
    trio.run(run, setting())
