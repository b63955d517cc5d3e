"""The latency of what is sent now while a large backlog drains, oldest first and newest first, and the memory it takes.

python -m benchmarks.backlog [--messages 1000000]

The backlog is made in the store of a gateway half that has no broker, then mosquitto comes, and a message is sent every
10 ms. Its latency is the time until it arrives at an independent subscriber.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil
import trio

if not __package__:  # started as a file: then this folder is where imports are looked for, not the project's
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.report import grid, machine
from taktora_trio import (
    ChannelWriter,
    Degraded,
    Deployment,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
    Store,
    Up,
    open_deployment,
)
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.testing.mqtt.mosquitto import open_mosquitto
from tests.client import Client, open_client

__all__ = ["measure"]

_TICK = 0.01


async def measure(catch_up: str, messages: int) -> list[str]:
    """Return a row for this order of catching up."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_mosquitto(Path(folder)) as broker:
            await broker.stop()
            store = Store(policy="always", path=Path(folder) / "store", max_bytes=2**30, catch_up=catch_up)  # type: ignore[arg-type]
            out = Outbound("out", bytes, MqttRouting("backlog/+", qos=1), max_payload=128, window=256, store=store)
            options = MqttOptions(
                broker=broker.url, presence=None, reconnect=Backoff(initial=0.05, maximum=0.1), max_inflight=256
            )
            deployment = Deployment("backlog", None, [MqttConnector([out], codec=RawCodec(), options=options)])
            async with (
                open_deployment(deployment, domain=f"backlog-{uuid.uuid4().hex[:8]}") as host,
                host.open_writer(out) as writer,
            ):
                began, last = time.perf_counter(), 0
                for number in range(messages):
                    last = await writer.send(b"%d" % number + bytes(90), topic="backlog/old")
                await writer.wait_stored()
                stored_in = time.perf_counter() - began
                rss = psutil.Process().memory_info().rss
                await broker.start()
                async with open_client(broker.port, "backlog/live") as client:
                    await host.wait_for_health(Up, Degraded)
                    return [catch_up, f"{messages / stored_in:,.0f}", *await _drain(writer, client, last, rss)]


async def _drain(writer: ChannelWriter[bytes], client: Client, last: int, rss: int) -> list[str]:
    """Send a message every 10 ms until the last of the backlog is acknowledged."""
    latencies: list[float] = []
    sent: dict[bytes, float] = {}
    most = rss

    async def tick() -> None:
        nonlocal most
        for number in itertools.count():
            payload = b"%d" % number
            sent[payload] = time.perf_counter()
            await writer.send(payload, topic="backlog/live")
            most = max(most, psutil.Process().memory_info().rss)
            await trio.sleep(_TICK)

    async def hear() -> None:
        async for message in client.messages:
            latencies.append(time.perf_counter() - sent.pop(message.payload))  # noqa: PERF401 - each at its time

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        nursery.start_soon(hear)
        began = time.perf_counter()
        await writer.wait_acknowledged(last)
        took = time.perf_counter() - began
        await trio.sleep(1)  # for the live ones behind it, where the oldest goes first
        nursery.cancel_scope.cancel()
    latencies.sort()
    p50, p99 = statistics.median(latencies), latencies[int(len(latencies) * 0.99)]
    figures = (p50 * 1000, p99 * 1000, latencies[-1] * 1000, (most - rss) / 2**20)
    return [f"{last / took:,.0f}", str(len(latencies)), *(f"{figure:,.1f}" for figure in figures)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=1_000_000)
    messages = parser.parse_args().messages
    rows = [
        [
            "catch_up",
            "stored/s",
            "drained/s",
            "live",
            "live p50, ms",
            "p99, ms",
            "worst, ms",
            "grown by, MiB",
        ]
    ]
    rows += [trio.run(measure, order, messages) for order in ("oldest-first", "newest-first")]
    print(machine())
    print(grid(rows))


if __name__ == "__main__":
    main()
