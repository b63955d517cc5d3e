"""MQTTium under asyncio: `publish_many`, and all receipts; with its SQLite store, or without."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mqttium.api import AsyncClient, PublishMessage, ReconnectPolicy
from mqttium.persistence import SqliteInflightStore

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
from benchmarks.peers.pace import pace_in_turn

__all__: list[str] = []


async def run(told: Setting) -> None:
    """Follow orders until there are no more."""
    with contextlib.ExitStack() as stack:
        store = None
        if told.stored:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            store = SqliteInflightStore(str(Path(folder) / "inflight.sqlite"))
            stack.callback(store.close)
        client = AsyncClient(told.name, clean_start=store is None, store=store, reconnect=ReconnectPolicy())
        await client.connect("127.0.0.1", told.port)
        await client.subscribe(told.pong, qos=1)
        for number in range(told.filters):
            await client.subscribe(told.inflow_filter(number), qos=1)
        answers = client.messages()
        inflow = Fetched(lambda: anext(answers))
        reader, writer = await asyncio.open_unix_connection(told.socket)
        writer.write(encode(Hello([os.getpid()])))
        async for line in reader:
            match decode_order(line):
                case Flood() as order:
                    await (await client.publish_many(_messages(told, order))).wait()
                    writer.write(encode(Done()))
                case Paced(qos) as order:
                    topic = told.paced_topic(qos)
                    publish = lambda payload: client.publish(topic, payload, qos=qos)  # noqa: B023, E731
                    writer.write(encode(Sent(await pace_in_turn(order, publish))))
                case Inflow(count):
                    writer.write(encode(Came(await inflow.wait_for(count))))
                case Trips(count, length):
                    times = []
                    for number in range(count):
                        payload = message.text(number, length=length)
                        start = time.perf_counter_ns()
                        await client.publish(told.ping, payload, qos=1)
                        answer = await anext(answers)
                        times.append(time.perf_counter_ns() - start)
                        message.check_answer(answer.payload, payload)
                    writer.write(encode(Times(times)))
        await client.disconnect()


def _messages(told: Setting, order: Flood) -> Iterator[PublishMessage]:
    topic, end = told.topic(order.qos), order.first + order.count - 1
    for number in range(order.first, end + 1):
        yield PublishMessage(topic, message.text(number, last=number == end, length=order.length), qos=order.qos)


if __name__ == "__main__":
    run_under_asyncio(run)
