"""aiomqtt under asyncio: each of `at_once` tasks awaits one publish after the other."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator

import aiomqtt

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
)
from benchmarks.peers.inflow import Fetched
from benchmarks.peers.loops import run_under_asyncio
from benchmarks.peers.pace import pace_tasks
from benchmarks.peers.tasks import flood_tasks

__all__: list[str] = []

# aiomqtt does not set it, and without it each acknowledgement would take 40 ms or more.
_SOCKET_OPTIONS = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


async def run(told: Setting) -> None:
    """Follow orders until there are no more."""
    async with aiomqtt.Client(
        "127.0.0.1",
        told.port,
        identifier=told.name,
        socket_options=_SOCKET_OPTIONS,
        max_inflight_messages=max(told.at_once, 20),
    ) as client:
        client.pending_calls_threshold = told.at_once  # more would be logged
        await client.subscribe(told.pong, qos=1)
        for number in range(told.filters):
            await client.subscribe(told.inflow_filter(number), qos=1)
        answers = aiter(client.messages)
        inflow = Fetched(lambda: anext(answers))
        reader, writer = await asyncio.open_unix_connection(told.socket)
        writer.write(encode(Hello([os.getpid()])))
        async for line in reader:
            match decode_order(line):
                case Flood() as flood:
                    await _flood(client, told, flood)
                    writer.write(encode(Done()))
                case Paced(qos) as order:
                    topic = told.paced_topic(qos)
                    publish = lambda payload: client.publish(topic, payload, qos)  # noqa: B023, E731
                    writer.write(encode(Sent(await pace_tasks(order, told.at_once, publish))))
                case Inflow(count):
                    writer.write(encode(Came(await inflow.wait_for(count))))
                case Trips(count, length):
                    writer.write(encode(Times(await _trips(client, answers, told.ping, count, length))))


async def _flood(client: aiomqtt.Client, told: Setting, order: Flood) -> None:
    topic, qos = told.topic(order.qos), order.qos
    await flood_tasks(order, told.at_once, lambda payload: client.publish(topic, payload, qos))


async def _trips(
    client: aiomqtt.Client, answers: AsyncIterator[aiomqtt.Message], topic: str, count: int, length: int
) -> list[int]:
    times = []
    for number in range(count):
        payload = message.text(number, length=length)
        start = time.perf_counter_ns()
        await client.publish(topic, payload, 1)
        answer = await anext(answers)
        times.append(time.perf_counter_ns() - start)
        message.check_answer(answer.payload, payload)
    return times


if __name__ == "__main__":
    run_under_asyncio(run)
