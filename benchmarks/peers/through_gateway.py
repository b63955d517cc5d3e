"""Ours: an app that sends through its gateway, in whichever shape it is run."""

from __future__ import annotations

import math
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

from benchmarks import message
from benchmarks.peers.control import (
    Came,
    Done,
    Flood,
    Hello,
    Inflow,
    Paced,
    QoS,
    Sends,
    Sent,
    Ticks,
    Times,
    Trips,
    decode_order,
    encode,
    setting,
)
from benchmarks.peers.pace import pace_in_trio, tick
from taktora_trio import (
    ChannelReader,
    ChannelWriter,
    Connector,
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
    Routing,
    Store,
    Up,
)
from taktora_trio.processes.lines import read_lines

__all__ = ["deployment"]

_SETTING = setting()
if not _SETTING.vitals:
    from taktora_trio.vitals import serving  # here, for a release without vitals is measured by this, too

    serving.EVERY = math.inf
_SIZE: Any = {"max_payload": _SETTING.max_payload, "window": _SETTING.window}


def _routing(topic: str, qos: QoS) -> Routing:
    if _SETTING.protocol == "mqtt":
        return MqttRouting(topic, qos=qos)
    from taktora_trio import ZenohRouting  # here, as above

    return ZenohRouting(topic.replace("+", "*"), acknowledged=bool(qos))


_OUT = {
    qos: [
        Outbound(f"qos{qos}-{channel}", bytes, _routing(_SETTING.topic(qos, channel), qos), **_SIZE)
        for channel in range(_SETTING.channels)
    ]
    for qos in _SETTING.qos
}
_PACED = {
    qos: Outbound(f"paced-{qos}", bytes, _routing(_SETTING.paced_topic(qos), qos), **_SIZE)
    for qos in (_SETTING.qos if _SETTING.paced else ())
}
_TRIPS: tuple[QoS, ...] = (1,) if _SETTING.protocol == "mqtt" else (0, 1)
_PING = {qos: Outbound(f"ping-{qos}", bytes, _routing(_SETTING.trip(qos)[0], qos), **_SIZE) for qos in _TRIPS}
_IN = [
    Inbound(f"in-{number}", bytes, _routing(_SETTING.inflow_filter(number), _SETTING.inflow_qos(number)), **_SIZE)
    for number in range(_SETTING.filters)
]
_TICKS = {qos: Outbound(f"tick-{qos}", bytes, _routing(_SETTING.tick(qos), qos), **_SIZE) for qos in _SETTING.ticks}
_PONG = {qos: Inbound(f"pong-{qos}", bytes, _routing(_SETTING.trip(qos)[1], qos), **_SIZE) for qos in _TRIPS}


async def run(host: ConnectorHost) -> None:
    """Follow orders until there are no more."""
    async with AsyncExitStack() as stack:
        paced = {qos: await stack.enter_async_context(host.open_writer(channel)) for qos, channel in _PACED.items()}
        writers = {qos: [await stack.enter_async_context(host.open_writer(c)) for c in _OUT[qos]] for qos in _OUT}
        pings = {qos: await stack.enter_async_context(host.open_writer(channel)) for qos, channel in _PING.items()}
        pongs = {qos: await stack.enter_async_context(host.open_reader(channel)) for qos, channel in _PONG.items()}
        ticks = {qos: await stack.enter_async_context(host.open_writer(channel)) for qos, channel in _TICKS.items()}
        inflow = _Inflow()
        nursery = await stack.enter_async_context(trio.open_nursery())
        for channel in _IN:
            reader = await stack.enter_async_context(host.open_reader(channel))
            nursery.start_soon(inflow.count, reader)
        await host.wait_for_health(Up)
        control = await stack.enter_async_context(await trio.open_unix_socket(_SETTING.socket))
        await control.send_all(encode(Hello([os.getpid()])))
        async for line in read_lines(control, unfinished=False):
            match decode_order(line):
                case Flood(qos, first, count, length):
                    await _flood(writers[qos], first, count, length)
                    if _SETTING.receipts and qos > 0:
                        for writer in writers[qos]:
                            await writer.wait_acknowledged()
                    await control.send_all(encode(Done()))
                case Paced(qos) as order:
                    await control.send_all(encode(Sent(await pace_in_trio(order, paced[qos].send))))
                case Inflow(count):
                    await control.send_all(encode(Came(await inflow.wait_for(count))))
                case Trips(count, length, qos):
                    await control.send_all(encode(Times(await _trips(pings[qos], pongs[qos], count, length))))
                case Sends(count, length):
                    await control.send_all(encode(Times(await _sends(pings[1], pongs[1], count, length))))
                case Ticks(count, qos, batch):
                    await control.send_all(encode(Times(await _ticks(ticks[qos], count, batch))))
        nursery.cancel_scope.cancel()


class _Inflow:
    """Counts inbound messages on all filters together."""

    def __init__(self) -> None:
        self._count = 0
        self._due = 0
        self._came = trio.Event()
        self._at = 0

    async def count(self, reader: ChannelReader[bytes]) -> None:
        async for _ in reader:
            self._count += 1
            if self._count == self._due:
                self._at = time.monotonic_ns()
                self._came.set()

    async def wait_for(self, count: int) -> int:
        """Return the time at which the message of that number came."""
        self._due, self._came = count, trio.Event()
        await self._came.wait()
        return self._at


async def _flood(writers: list[ChannelWriter[bytes]], first: int, count: int, length: int) -> None:
    end = first + count - 1
    for number in range(first, end + 1):
        payload = message.text(number, last=number == end, length=length)
        for writer in writers:
            await writer.send(payload)


async def _sends(ping: ChannelWriter[bytes], pong: ChannelReader[bytes], count: int, length: int) -> list[int]:
    times = []
    for number in range(count):
        payload = message.text(number, length=length)
        start = time.perf_counter_ns()
        await ping.send(payload)
        times.append(time.perf_counter_ns() - start)
        await trio.sleep(0.001)
    for _ in range(count):
        await pong.receive()
    return times


async def _trips(ping: ChannelWriter[bytes], pong: ChannelReader[bytes], count: int, length: int) -> list[int]:
    times = []
    for number in range(count):
        payload = message.text(number, length=length)
        start = time.perf_counter_ns()
        await ping.send(payload)
        answer = await pong.receive()
        times.append(time.perf_counter_ns() - start)
        message.check_answer(answer.value, payload)
    return times


async def _ticks(writer: ChannelWriter[bytes], count: int, batch: int) -> list[int]:
    async def send() -> None:
        for number in range(1, batch + 1):
            await writer.send(message.text(number))

    return await tick(count, send)


def _connector() -> Connector:
    channels = [
        *(channel for channels in _OUT.values() for channel in channels),
        *(*_IN, *_PACED.values(), *_PING.values(), *_PONG.values(), *_TICKS.values()),
    ]
    if _SETTING.protocol == "mqtt":
        options = MqttOptions(session=_SETTING.session, max_inflight=_SETTING.window)
        return MqttConnector(channels, codec=RawCodec(), options=options)
    from taktora_trio import ZenohConnector, ZenohOptions

    endpoint = f"tcp/127.0.0.1:{_SETTING.port}"
    return ZenohConnector(
        channels, codec=RawCodec(), options=ZenohOptions(connect=endpoint, max_inflight=_SETTING.window)
    )


_STORE = Store(policy="always", path=Path(_SETTING.socket).parent / _SETTING.name) if _SETTING.stored else None
deployment = Deployment(_SETTING.name, run, [_connector()], store=_STORE)
