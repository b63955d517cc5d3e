"""zmqtt under asyncio: each of `at_once` tasks awaits one publish after the other."""

from __future__ import annotations

import asyncio
import os
import time

import zmqtt

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
    client = zmqtt.create_client("127.0.0.1", told.port, client_id=told.name)
    filters = map(told.inflow_filter, range(told.filters))
    async with (
        client,
        client.subscribe(told.pong, qos=zmqtt.QoS.AT_LEAST_ONCE) as answers,
        client.subscribe(*(filters if told.filters else ["unused"]), qos=zmqtt.QoS.AT_LEAST_ONCE) as incoming,
    ):
        inflow = Fetched(incoming.get_message)
        reader, writer = await asyncio.open_unix_connection(told.socket)
        writer.write(encode(Hello([os.getpid()])))
        async for line in reader:
            match decode_order(line):
                case Flood() as flood:
                    await _flood(client, told, flood)
                    writer.write(encode(Done()))
                case Paced(qos) as order:
                    topic, level = told.paced_topic(qos), zmqtt.QoS(qos)
                    publish = lambda payload: client.publish(topic, payload, qos=level)  # noqa: B023, E731
                    writer.write(encode(Sent(await pace_tasks(order, told.at_once, publish))))
                case Inflow(count):
                    writer.write(encode(Came(await inflow.wait_for(count))))
                case Trips(count, length):
                    times = []
                    for number in range(count):
                        payload = message.text(number, length=length)
                        start = time.perf_counter_ns()
                        await client.publish(told.ping, payload, qos=zmqtt.QoS.AT_LEAST_ONCE)
                        answer = await answers.get_message()
                        times.append(time.perf_counter_ns() - start)
                        message.check_answer(answer.payload, payload)
                    writer.write(encode(Times(times)))


async def _flood(client: zmqtt.MQTTClientV311, told: Setting, order: Flood) -> None:
    topic, qos = told.topic(order.qos), zmqtt.QoS(order.qos)
    await flood_tasks(order, told.at_once, lambda payload: client.publish(topic, payload, qos=qos))


if __name__ == "__main__":
    run_under_asyncio(run)
