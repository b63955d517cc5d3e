"""The app of `inbound.py`: it counts a flood, answers pings, and handles two channels at their own pace."""

from __future__ import annotations

import os
import time
from typing import Any, Literal

import msgspec
import trio

from taktora_trio import (
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
)
from taktora_trio.host.reader import ChannelReader

__all__ = ["Case", "Flooded", "Paced"]

Acknowledge = Literal["when-done", "on-arrival"]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """The way in which the app's channels are declared."""

    broker: str = "mqtt://127.0.0.1:1883"
    protocol: Literal["3.1.1", "5"] = "3.1.1"
    acknowledge: Acknowledge = "when-done"
    slow_acknowledge: Acknowledge = "when-done"
    slow_qos: Literal[1, 2] = 1
    slow_seconds: float = 1.0
    """The time that the app takes for one message of the slow channel."""


class Flooded(msgspec.Struct, frozen=True, tag=True):
    """A flood has come. Times are the system's monotonic clock's in ns, which all processes share."""

    began: int
    ended: int


class Paced(msgspec.Struct, frozen=True, tag=True):
    """The latencies of the fast channel in ns, and the number of messages that the slow one has done."""

    latencies: list[int]
    slow: int


CASE = msgspec.json.decode(os.environ.get("BENCHMARK_CASE", "{}"), type=Case)
_SIZE: Any = {"max_payload": 100, "window": 256}


def _inbound(name: str, qos: Literal[1, 2] = 1, acknowledge: Acknowledge = CASE.acknowledge) -> Inbound[bytes]:
    return Inbound(name, bytes, MqttRouting(f"benchmark/{name}", qos=qos), acknowledge=acknowledge, **_SIZE)


_FLOOD, _PING, _FAST = _inbound("flood"), _inbound("ping"), _inbound("fast")
_SLOW = _inbound("slow", CASE.slow_qos, CASE.slow_acknowledge)
_PONG = Outbound("pong", bytes, MqttRouting("benchmark/pong", qos=1), **_SIZE)
_TOLD = Outbound("told", bytes, MqttRouting("benchmark/told", qos=1), max_payload=2**20, window=8)
_encode = msgspec.json.Encoder().encode


async def run(host: ConnectorHost) -> None:
    """Run until it is cancelled."""
    async with (
        host.open_reader(_FLOOD) as flood,
        host.open_reader(_PING) as ping,
        host.open_reader(_FAST) as fast,
        host.open_reader(_SLOW) as slow,
        host.open_writer(_PONG) as pong,
        host.open_writer(_TOLD) as told,
        trio.open_nursery() as nursery,
    ):
        done: list[int] = []

        async def count() -> None:
            began = 0
            async for received in flood:
                began = began or time.monotonic_ns()
                if received.value == b"end":
                    await told.send(_encode(Flooded(began, time.monotonic_ns())))
                    began = 0

        async def answer() -> None:
            async for received in ping:
                await pong.send(received.value)

        async def follow() -> None:
            latencies: list[int] = []
            async for received in fast:
                if received.value == b"end":
                    await told.send(_encode(Paced(latencies, len(done))))
                    latencies, done[:] = [], []
                else:
                    latencies.append(time.monotonic_ns() - int(received.value))

        async def take_time(reader: ChannelReader[bytes]) -> None:
            async for received in reader:
                await trio.sleep(CASE.slow_seconds)
                done.append(received.header.sequence_number)

        for task in (count, answer, follow):
            nursery.start_soon(task)
        nursery.start_soon(take_time, slow)
        await told.send(b"ready")


_OPTIONS = MqttOptions(broker=CASE.broker, protocol=CASE.protocol, presence=None, max_inflight=256)
deployment = Deployment(
    "benchmark-inbound",
    run,
    [MqttConnector([_FLOOD, _PING, _FAST, _SLOW, _PONG, _TOLD], options=_OPTIONS, codec=RawCodec())],
)
