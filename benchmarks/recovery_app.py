"""The app of `recovery.py`: an item ticks, and the times of each tick and each change of health are told."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TypeAlias

import msgspec
import trio

from benchmarks import message
from taktora_trio import BackPressure, ConnectorHost, Deployment, MqttConnector, MqttRouting, Outbound, RawCodec
from taktora_trio.executor import Context, Executor, Tick, every

__all__ = ["SOCKET_VARIABLE", "Line", "Seen", "Ticks"]

SOCKET_VARIABLE = "TAKTORA_BENCHMARK_SOCKET"
"""The environment variable with the path of the unix socket at which lines of JSON are awaited."""
_PERIOD, _BATCH = 0.01, 50
_TICKS = Outbound("ticks", bytes, MqttRouting("benchmark/recovery", qos=1), max_payload=message.LENGTH, window=1000)


class Seen(msgspec.Struct, frozen=True, tag=True):
    """A health event was received. Times are the system's monotonic clock's in ns, which all processes share."""

    state: str
    at: int


class Ticks(msgspec.Struct, frozen=True, tag=True):
    """Ticks in a row."""

    at: list[int]
    lateness: list[int]
    """The lateness in ns; that of a slot that was missed is by when the next one ran."""


Line: TypeAlias = Seen | Ticks


async def run(host: ConnectorHost) -> None:
    """Run until it is cancelled."""
    events = host.health_events()  # before anything is awaited, so that not even the first is missed
    encode = msgspec.json.Encoder().encode
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[SOCKET_VARIABLE])

        def tell(line: Line) -> None:
            connection.sendall(encode(line) + b"\n")  # little, and read at once, so it does not wait

        async def tell_health() -> None:
            async for event in events:
                tell(Seen(type(event.after).__name__, time.monotonic_ns()))

        executor = Executor()
        at, lateness = list[int](), list[int]()
        async with trio.open_nursery() as nursery, host.open_writer(_TICKS) as writer:
            nursery.start_soon(tell_health)

            @executor.item(every(_PERIOD))
            async def tick(ctx: Context) -> None:
                assert isinstance(ctx.wake, Tick)
                late = trio.current_time() - ctx.due
                for missed in range(ctx.wake.skipped + 1):  # as if somebody waited for each slot
                    lateness.append(int((late + missed * _PERIOD) * 1e9))
                    at.append(time.monotonic_ns())
                with contextlib.suppress(BackPressure):
                    writer.send_nowait(message.pack(ctx.wake.slot))
                if len(at) >= _BATCH:
                    tell(Ticks(list(at), list(lateness)))
                    at.clear()
                    lateness.clear()

            await executor.run()


deployment = Deployment("benchmark-recovery", run, [MqttConnector([_TICKS], codec=RawCodec())])
