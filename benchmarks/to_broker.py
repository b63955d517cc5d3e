"""From app to broker at QoS 1, through the whole split path, against sequential publishing by aiomqtt.

Ours: the app of `flood.py` in its plugin process, shared memory, the gateway process with its session,
mosquitto. The peer: `sequential.py`. Both publish 100 bytes at QoS 1 to one broker, in turn, when an order for some
thousand messages comes. The clock is neither's own: a subscriber in this process, which is paho's and none of the
library's, counts what the broker hands out, number by number, and times it from the first to the last.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import AsyncIterator

import trio
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks import flood, message, sequential
from benchmarks.children import open_python
from benchmarks.mosquitto import open_mosquitto
from benchmarks.report import Figure, median_of_ratios

__all__ = ["measure_to_broker"]

_MESSAGES = 4_000
_ROUND_TIMEOUT, _LIMIT = 60.0, 600


async def measure_to_broker(rounds: int) -> list[Figure]:
    """Measure both in turn, round after round, after one to warm up."""
    domain = f"benchmark-flood-{os.getpid()}"
    async with open_mosquitto() as port, _open_subscriber(port) as subscriber:
        ours = subscriber.follow(flood.ORDERS.routing.address, flood.MESSAGES.routing.address)
        theirs = subscriber.follow(sequential.ORDERS, sequential.MESSAGES)
        split = ["taktora_trio", "run", "benchmarks.flood:deployment", "--mode", "split", "--domain", domain]
        limit = str(_LIMIT)  # it ends by itself should this process be killed
        async with (
            open_python(*split, "--broker", f"mqtt://127.0.0.1:{port}", "--for", limit, stderr=subprocess.DEVNULL),
            open_python("benchmarks.sequential", str(port)),
        ):
            for publisher in (ours, theirs):
                await publisher.wait_until_ready()
                await publisher.time_order(_MESSAGES // 4)
            our_rates, their_rates = [], []
            for _ in range(rounds):
                our_rates.append(await ours.time_order(_MESSAGES))
                their_rates.append(await theirs.time_order(_MESSAGES))
    return [
        Figure(
            what="app to broker, 100 B, QoS 1: split path / sequential aiomqtt",
            measured=median_of_ratios(our_rates, their_rates),
            target=2.0,
            unit="x",
            at_most=False,
            beside=f"{statistics.median(our_rates):,.0f} / {statistics.median(their_rates):,.0f} messages/s",
        )
    ]


class _Publisher:
    """A publisher as it is seen from behind the broker."""

    def __init__(self, client: Client, orders: str, token: trio.lowlevel.TrioToken) -> None:
        self._client = client
        self._orders = orders
        self._token = token
        self._tally = message.Tally()
        self._failure: RuntimeError | None = None
        self._first, self._last = 1, 1
        self._start = self._end = 0.0
        self._complete = trio.Event()

    async def wait_until_ready(self) -> None:
        with trio.fail_after(_ROUND_TIMEOUT):
            await self._wait()

    async def time_order(self, count: int) -> float:
        """Order `count` messages; return how many a second came."""
        self._complete = trio.Event()
        self._first, self._last = self._tally.count + 1, self._tally.count + count
        self._client.publish(self._orders, str(count), qos=1)
        with trio.fail_after(_ROUND_TIMEOUT):
            await self._wait()
        return (count - 1) / (self._end - self._start)

    async def _wait(self) -> None:
        await self._complete.wait()
        if self._failure is not None:
            raise self._failure

    def take(self, payload: bytes) -> None:
        """Take a message of this publisher in. Runs in paho's thread."""
        try:
            self._tally.take(payload)
        except RuntimeError as exc:
            self._failure = exc
        count = self._tally.count
        if count == self._first:
            self._start = time.perf_counter()
        if count == self._last or self._failure is not None:
            self._end = time.perf_counter()
            self._token.run_sync_soon(self._complete.set)


class _Subscriber:
    """One connection to the broker that counts what comes from several publishers, in a thread of paho's."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def follow(self, orders: str, messages: str) -> _Publisher:
        """Count what is published on the topic `messages` by whoever listens to the topic `orders`."""
        publisher = _Publisher(self._client, orders, trio.lowlevel.current_trio_token())

        def take(client: Client, userdata: object, arrived: MQTTMessage) -> None:
            publisher.take(bytes(arrived.payload))

        self._client.message_callback_add(messages, take)
        self._client.subscribe(messages, qos=0)  # the least work for the machine that is being measured
        return publisher


@contextlib.asynccontextmanager
async def _open_subscriber(port: int) -> AsyncIterator[_Subscriber]:
    client = Client(CallbackAPIVersion.VERSION2)
    await trio.to_thread.run_sync(client.connect, "127.0.0.1", port)
    client.loop_start()
    try:
        yield _Subscriber(client)
    finally:
        client.disconnect()
        client.loop_stop()
