"""Zenoh used directly by a trio program: as its own docs have it, and as fast as trials have found it.

A declared publisher puts from the loop's thread, where it blocks the loop when the network is slow: that is what a
program does that takes no care. For acknowledged messages a declared querier asks, and a thread awaits the replies in
their order. What comes is called back in the library's threads, and handed to the loop a batch at a time.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

import trio
import zenoh

from benchmarks import message
from benchmarks.peers.control import (
    Came,
    Done,
    Flood,
    Hello,
    Inflow,
    QoS,
    Setting,
    Ticks,
    Times,
    Trips,
    decode_order,
    encode,
    setting,
)
from benchmarks.peers.inflow import Called
from benchmarks.peers.pace import tick
from benchmarks.zenoh.node import ask_on, open_client
from taktora_trio.processes.lines import read_lines

__all__: list[str] = []

_TURN = 64  # messages between two turns of the loop
_WINDOW = 256


class _Loop:
    """Calls in trio's thread what other threads hand over, a batch at a time."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._calls = deque[tuple[Callable[[bytes], object], bytes]]()
        self._woken = False

    def hand(self, call: Callable[[bytes], object], payload: bytes) -> None:
        self._calls.append((call, payload))
        if not self._woken:
            self._woken = True
            self._token.run_sync_soon(self._run)

    def _run(self) -> None:
        self._woken = False
        for _ in range(len(self._calls)):
            call, payload = self._calls.popleft()
            call(payload)


class _Asked:
    """Acknowledged messages of one key, at most so many without a reply; a thread waits for these."""

    def __init__(self, session: zenoh.Session, key: str, window: int) -> None:
        self._ask = ask_on(session, key)
        self._asked = SimpleQueue[zenoh.Handler[zenoh.Reply] | None]()
        self._token = trio.lowlevel.current_trio_token()
        self._window, self._sent, self._done = window, 0, 0
        self._changed = trio.Event()

    async def serve(self) -> None:
        await trio.to_thread.run_sync(self._await_replies)

    async def send(self, payload: bytes) -> None:
        while self._sent - self._done >= self._window:
            await self._wait()
        self._sent += 1
        self._asked.put(self._ask(payload))

    async def drain(self) -> None:
        while self._done < self._sent:
            await self._wait()

    def close(self) -> None:
        self._asked.put(None)

    async def _wait(self) -> None:
        self._changed = trio.Event()
        await self._changed.wait()

    def _await_replies(self) -> None:
        while (replies := self._asked.get()) is not None:
            if not [reply for reply in replies if reply.ok is not None]:
                os._exit(1)  # nobody acknowledges
            self._done += 1
            if self._asked.empty() or self._done % _TURN == 0:
                self._token.run_sync_soon(self._tell, idempotent=True)

    def _tell(self) -> None:
        self._changed.set()


async def run(told: Setting) -> None:
    """Follow orders until there are no more."""
    session = await trio.to_thread.run_sync(open_client, told.port)
    loop = _Loop()
    send, answers = trio.open_memory_channel[bytes](math.inf)
    came = trio.Event()
    inflow = Called(lambda: came.set())

    def take(call: Callable[[bytes], object]) -> Callable[[zenoh.Sample], None]:
        return lambda sample: loop.hand(call, sample.payload.to_bytes())

    def answer(call: Callable[[bytes], object]) -> Callable[[zenoh.Query], None]:
        def asked(query: zenoh.Query) -> None:
            assert query.payload is not None
            loop.hand(call, query.payload.to_bytes())
            with query:
                query.reply(query.key_expr, b"")

        return asked

    def count(_: bytes) -> None:
        inflow.take()

    session.declare_subscriber(told.trip(0)[1], take(send.send_nowait))
    session.declare_queryable(told.trip(1)[1], answer(send.send_nowait), complete=True)
    session.declare_subscriber(told.inflow_filter(0).replace("+", "*"), take(count))
    session.declare_queryable(told.inflow_filter(1).replace("+", "*"), answer(count), complete=True)
    block = zenoh.CongestionControl.BLOCK
    keys = {"flood": told.topic, "ping": lambda qos: told.trip(qos)[0], "tick": told.tick}
    put = {name: session.declare_publisher(key(0), congestion_control=block).put for name, key in keys.items()}
    asks = {name: _Asked(session, key(1), _WINDOW) for name, key in keys.items()}

    async def publish(name: str, qos: QoS, payload: bytes) -> None:
        if qos:
            await asks[name].send(payload)
        else:
            put[name](payload)

    async def flood(order: Flood) -> None:
        end = order.first + order.count - 1
        for number in range(order.first, end + 1):
            payload = message.text(number, last=number == end, length=order.length)
            if order.qos:
                await asks["flood"].send(payload)
            else:
                put["flood"](payload)
            if number % _TURN == 0:
                await trio.lowlevel.checkpoint()
        await asks["flood"].drain()

    async def trips(order: Trips) -> list[int]:
        times = []
        for number in range(order.count):
            payload = message.text(number, length=order.length)
            start = time.perf_counter_ns()
            await publish("ping", order.qos, payload)
            received = await answers.receive()
            times.append(time.perf_counter_ns() - start)
            message.check_answer(received, payload)
        return times

    async with trio.open_nursery() as nursery:
        for one in asks.values():
            nursery.start_soon(one.serve)
        async with await trio.open_unix_socket(told.socket) as control:
            await control.send_all(encode(Hello([os.getpid()])))
            async for line in read_lines(control, unfinished=False):
                match decode_order(line):
                    case Flood() as order:
                        await flood(order)
                        await control.send_all(encode(Done()))
                    case Inflow(due):
                        came = trio.Event()
                        inflow.expect(due)
                        await came.wait()
                        await control.send_all(encode(Came(inflow.at)))
                    case Trips() as order:
                        await control.send_all(encode(Times(await trips(order))))
                    case Ticks(due, qos, batch):

                        async def send_batch(qos: QoS = qos, batch: int = batch) -> None:
                            for number in range(1, batch + 1):
                                await publish("tick", qos, message.text(number))

                        await control.send_all(encode(Times(await tick(due, send_batch))))
        for one in asks.values():
            one.close()
    session.close()


if __name__ == "__main__":
    trio.run(run, setting())
    os._exit(0)
