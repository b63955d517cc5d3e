"""gmqtt under asyncio. Its publish does not wait, so the loop has a turn after every so many messages."""

from __future__ import annotations

import asyncio
import logging
import os
import time

import gmqtt

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
from benchmarks.peers.inflow import Called
from benchmarks.peers.loops import run_under_asyncio
from benchmarks.peers.pace import pace_calls

__all__: list[str] = []


async def run(told: Setting) -> None:
    """Follow orders until there are no more."""
    logging.getLogger("gmqtt").setLevel(logging.ERROR)  # a line for each message without a connection (`features.py`)
    answers, subscribed = asyncio.Queue[bytes](), asyncio.Event()
    unacknowledged = gmqtt.storage.PersistentStorage()
    client = gmqtt.Client(told.name, clean_session=False, session_expiry_interval=60, persistent_storage=unacknowledged)
    came = asyncio.Event()
    inflow = Called(came.set)

    def take(client: gmqtt.Client, topic: str, payload: bytes, qos: int, properties: object) -> None:
        if topic == told.pong:
            answers.put_nowait(payload)
        else:
            inflow.take()

    client.on_message = take
    client.on_subscribe = lambda client, mid, qos, properties: subscribed.set()
    await client.connect("127.0.0.1", told.port)
    for topic_filter in (told.pong, *map(told.inflow_filter, range(told.filters))):
        subscribed.clear()
        client.subscribe(topic_filter, qos=1)
        await subscribed.wait()
    reader, writer = await asyncio.open_unix_connection(told.socket)
    writer.write(encode(Hello([os.getpid()])))
    async for line in reader:
        match decode_order(line):
            case Flood(qos, first, count, length):
                topic, end = told.topic(qos), first + count - 1
                for number in range(first, end + 1):
                    client.publish(topic, message.text(number, last=number == end, length=length), qos=qos)
                    if number % told.window == 0:
                        await asyncio.sleep(0)
                await unacknowledged.wait_empty()
                writer.write(encode(Done()))
            case Paced(qos) as order:
                topic = told.paced_topic(qos)
                publish = lambda payload: client.publish(topic, payload, qos=qos)  # noqa: B023, E731
                writer.write(encode(Sent(await pace_calls(order, publish))))
            case Inflow(count):
                came.clear()
                inflow.expect(count)
                await came.wait()
                writer.write(encode(Came(inflow.at)))
            case Trips(count, length):
                times = []
                for number in range(count):
                    payload = message.text(number, length=length)
                    start = time.perf_counter_ns()
                    client.publish(told.ping, payload, qos=1)
                    answer = await answers.get()
                    times.append(time.perf_counter_ns() - start)
                    message.check_answer(answer, payload)
                writer.write(encode(Times(times)))
    await client.disconnect()


if __name__ == "__main__":
    run_under_asyncio(run)
