"""aiomqtt 3 under asyncio, which no longer has paho inside and speaks MQTT 5: `at_once` tasks, as in `with_aiomqtt.py`.

It can't be where aiomqtt 2 is, so it has an environment of its own (`make .venv/aiomqtt3`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import aiomqtt  # not the version that mypy sees

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


async def run(told: Setting) -> None:
    """Follow orders until there are no more."""
    make: Any = aiomqtt.Client
    async with make(
        hostname="127.0.0.1", port=told.port, identifier=told.name, clean_start=True, reconnect=True
    ) as client:
        await client.subscribe(told.pong, max_qos=aiomqtt.QoS.AT_LEAST_ONCE)  # type: ignore[attr-defined]
        for number in range(told.filters):
            await client.subscribe(told.inflow_filter(number), max_qos=aiomqtt.QoS.AT_LEAST_ONCE)  # type: ignore[attr-defined]
        answers = client.messages()

        async def fetch() -> None:  # which the app acknowledges
            incoming = await anext(answers)
            if incoming.packet_id is not None:
                await client.puback(incoming.packet_id)

        inflow = Fetched(fetch)
        reader, writer = await asyncio.open_unix_connection(told.socket)
        writer.write(encode(Hello([os.getpid()])))
        async for line in reader:
            match decode_order(line):
                case Flood() as flood:
                    await _flood(client, told, flood)
                    writer.write(encode(Done()))
                case Paced(qos) as order:
                    publish = _publisher(client, told.paced_topic(qos), qos)
                    writer.write(encode(Sent(await pace_tasks(order, told.at_once, publish))))
                case Inflow(count):
                    writer.write(encode(Came(await inflow.wait_for(count))))
                case Trips(count, length):
                    writer.write(encode(Times(await _trips(client, answers, told.ping, count, length))))


def _publisher(client: Any, topic: str, qos: int) -> Any:
    level = aiomqtt.QoS(qos)  # type: ignore[attr-defined]
    if not qos:
        return lambda payload: client.publish(topic, payload, qos=level)
    return lambda payload: client.publish(topic, payload, qos=level, packet_id=next(client.packet_ids))


async def _flood(client: Any, told: Setting, order: Flood) -> None:
    await flood_tasks(order, told.at_once, _publisher(client, told.topic(order.qos), order.qos))


async def _trips(client: Any, answers: AsyncIterator[Any], topic: str, count: int, length: int) -> list[int]:
    times, send = [], _publisher(client, topic, 1)
    for number in range(count):
        payload = message.text(number, length=length)
        start = time.perf_counter_ns()
        await send(payload)
        answer = await anext(answers)
        times.append(time.perf_counter_ns() - start)
        await client.puback(answer.packet_id)
        message.check_answer(answer.payload, payload)
    return times


if __name__ == "__main__":
    run_under_asyncio(run)
