"""The app of `isolation.py` in its four set-ups: a 10 ms control item beside MQTT that fares badly.

As a deployment it runs in-process, in-process with a gateway thread, or split; as a program it is the plain app, which
speaks MQTT itself by aiomqtt. What it is to do comes by the environment, and what it measured goes to a file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import trio
import trio.lowlevel

from benchmarks import message
from taktora_trio import (
    Backoff,
    BackPressure,
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
    Received,
    Up,
)
from taktora_trio.chaos.greed import take_cores, take_memory
from taktora_trio.connectors.base import GatewayChannels
from taktora_trio.connectors.connection import Client, OnMessage
from taktora_trio.executor import Context, Executor, Tick, every, on_message

__all__ = ["BATCH", "PERIOD", "TO_APP", "TO_BROKER", "VARIABLE", "Fault", "Order", "Result", "Setup"]

Setup: TypeAlias = Literal["plain", "in-process", "thread", "split"]
Fault: TypeAlias = Literal["idle", "busy", "dead", "killed", "burning", "blocked", "greedy"]

VARIABLE = "TAKTORA_ISOLATION"
"""The environment variable with the `Order`, as JSON."""
TO_BROKER, TO_APP = "benchmark/isolation/out", "benchmark/isolation/in"
PERIOD = 0.01  # seconds
BATCH = 20  # messages each period: 2,000 a second
_RECONNECT = 0.01  # seconds between two attempts at a dead broker
_LIFE = 1.0  # seconds from when a gateway that is to be killed works
_BURN = 0.05  # seconds of computing between two turns of the loop that it runs in
_BLOCK = 0.5  # seconds of a system call, and then as long without
_UP_WITHIN = 30.0


class Order(msgspec.Struct, frozen=True):
    """One run."""

    setup: Setup
    fault: Fault
    port: int
    warm_up: float
    seconds: float
    result: str
    """The file to write the `Result` to, as JSON."""


class Result(msgspec.Struct, frozen=True):
    """All that the app has measured."""

    lateness: list[float]
    """In seconds, of each slot. One that was missed counts as late by when the next one ran."""
    received: int
    sent: int


def _order() -> Order:
    return msgspec.json.decode(os.environ[VARIABLE], type=Order)


# The control item, the same in all set-ups


class Control:
    """Notes how late it is."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._first = round(order.warm_up / PERIOD)
        self._last = self._first + round(order.seconds / PERIOD)
        self.lateness: list[float] = []
        self.received = self.sent = 0
        self.measures = False

    async def control(self, ctx: Context) -> None:
        now = trio.current_time()
        assert isinstance(ctx.wake, Tick)
        if ctx.wake.slot >= self._first:
            self.measures = True
            # As if somebody waited for each slot; else a loop that stands still would count once.
            self.lateness += [now - (ctx.due - missed * PERIOD) for missed in range(ctx.wake.skipped, 0, -1)]
            self.lateness.append(now - ctx.due)
        if ctx.wake.slot >= self._last:
            ctx.stop()

    def write(self) -> None:
        result = Result(self.lateness, self.received, self.sent)
        Path(self._order.result).write_bytes(msgspec.json.encode(result))


# The faults, wherever MQTT is spoken


async def misbehave(order: Order, kill: Callable[[], None]) -> None:
    """Bring the fault about beside the MQTT code, in the loop that this runs in."""
    match order.fault:
        case "killed":
            await trio.sleep(_LIFE)
            kill()
        case "burning":
            while True:
                until = time.perf_counter() + _BURN
                while time.perf_counter() < until:
                    pass
                await trio.lowlevel.checkpoint()
        case "blocked":
            while True:
                await trio.sleep(_BLOCK)
                time.sleep(_BLOCK)  # noqa: ASYNC251 - that is the fault
        case "greedy":
            with take_cores():
                while True:
                    await take_memory()
        case _:
            pass


def _crash() -> None:
    raise RuntimeError("killed on purpose")


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# With the library


class _Connector(MqttConnector):
    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        order = _order()

        async def run(ctx: Context) -> None:
            await misbehave(order, _kill if order.setup == "split" else _crash)

        channels.executor.add(run, every(3600), name="misbehaviour")  # at once, and not again in this run
        return super().client(channels, on_message)


_OUT = Outbound("out", bytes, MqttRouting(TO_BROKER), max_payload=message.LENGTH, window=1000)
_IN = Inbound("in", bytes, MqttRouting(TO_APP), max_payload=message.LENGTH, window=1000)


async def app(host: ConnectorHost) -> None:
    order = _order()
    control, executor = Control(order), Executor()
    async with host.open_writer(_OUT) as writer, host.open_reader(_IN) as reader:
        if order.fault == "busy":

            @executor.item(every(PERIOD))
            async def send(ctx: Context) -> None:
                with contextlib.suppress(BackPressure):
                    for number in range(BATCH):
                        writer.send_nowait(message.pack(number))
                        control.sent += control.measures

            @executor.item(on_message(reader))
            async def receive(ctx: Context[Received[bytes]]) -> None:
                control.received += control.measures

        executor.add(control.control, every(PERIOD))
        if order.fault != "dead":
            with trio.fail_after(_UP_WITHIN):
                await host.wait_for_health(Up)
        await executor.run()
        control.write()


def _deployment() -> Deployment:
    options = MqttOptions(reconnect=Backoff(initial=_RECONNECT, maximum=_RECONNECT, factor=1, jitter=0))
    connector = _Connector([_OUT, _IN], options=options, codec=RawCodec())
    thread = VARIABLE in os.environ and _order().setup == "thread"
    return Deployment("benchmark-isolation", app, [connector], gateway_thread=thread)


deployment = _deployment()


# Without it


async def _speak_mqtt(order: Order, control: Control, connected: trio.Event) -> None:
    """Speak MQTT in the app itself: connect, carry, and begin anew whenever that fails."""
    import aiomqtt
    from trio_asyncio import aio_as_trio

    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]

    async def carry() -> None:  # runs on the asyncio side, which is the faster of the two
        import asyncio

        async with aiomqtt.Client("127.0.0.1", order.port, socket_options=options) as client:
            await client.subscribe(TO_APP)
            connected.set()

            async def publish() -> None:
                due = time.monotonic()
                while order.fault == "busy":
                    due += PERIOD
                    await asyncio.sleep(due - time.monotonic())
                    for number in range(BATCH):
                        await client.publish(TO_BROKER, message.pack(number))
                        control.sent += control.measures

            async with asyncio.TaskGroup() as group:
                group.create_task(publish())
                async for _ in client.messages:
                    control.received += control.measures

    while True:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(misbehave, order, _crash)
                await aio_as_trio(carry)()
        except* (aiomqtt.MqttError, RuntimeError):
            await trio.sleep(_RECONNECT)


async def plain() -> None:
    import trio_asyncio

    order = _order()
    control, executor, connected = Control(order), Executor(), trio.Event()
    executor.add(control.control, every(PERIOD))
    async with trio_asyncio.open_loop(), trio.open_nursery() as nursery:
        nursery.start_soon(_speak_mqtt, order, control, connected)
        if order.fault != "dead":
            with trio.fail_after(_UP_WITHIN):
                await connected.wait()
        await executor.run()
        control.write()
        os._exit(0)  # a cancelled aiomqtt with messages in hand does not always end, and how it ends is not measured


if __name__ == "__main__":
    trio.run(plain)
