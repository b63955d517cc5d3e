"""Apps for the system tests. Each runs, unchanged, in both shapes."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from pathlib import Path

import attrs
import trio

from taktora_trio import (
    BackPressure,
    CodecError,
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    PayloadOverflow,
    RestartPolicy,
    Up,
)
from taktora_trio.connectors.base import GatewayChannels
from taktora_trio.connectors.connection import Client, OnMessage
from tests.beside import run_beside


@attrs.frozen
class Tick:
    number: int
    pid: int


@attrs.frozen
class Transition:
    number: int
    before: str
    after: str
    cause: str


TICKS = Outbound("ticks", Tick, MqttRouting("test/ticks", qos=1), window=1000)
TRANSITIONS = Outbound("transitions", Transition, MqttRouting("test/transitions", qos=1))


async def tick(host: ConnectorHost) -> None:
    """Tick every 10 ms, whatever the gateway does, and tell every change of its health."""

    events = host.health_events()  # before anything is awaited, so that not even the first is missed

    async def tell_health() -> None:
        async with host.open_writer(TRANSITIONS) as transitions:
            number = 0
            async for event in events:
                number += 1
                before, cause = type(event.before).__name__, str(event.cause or "")
                await transitions.send(Transition(number, before, str(event.after), cause))

    async with trio.open_nursery() as nursery, host.open_writer(TICKS) as ticks:
        nursery.start_soon(tell_health)
        for number in itertools.count():
            with contextlib.suppress(BackPressure):
                ticks.send_nowait(Tick(number, os.getpid()))
            await trio.sleep(0.01)


ticking = Deployment("ticking", tick, [MqttConnector([TICKS, TRANSITIONS])])


class CrashesOnce(MqttConnector):
    """Its first gateway half in a process raises as soon as it is connected."""

    _starts = itertools.count(1)

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        async def crash_when_up() -> None:
            await channels.health.wait_for(self.name, Up)
            raise RuntimeError("crash on purpose")

        if next(self._starts) == 1:
            run_beside(channels, crash_when_up)
        return super().client(channels, on_message)


crashing = Deployment("crashing", tick, [CrashesOnce([TICKS, TRANSITIONS])])


@attrs.frozen
class Identity:
    app: str
    pid: int
    protocol_stack: list[str]


COUNT = Outbound("count", int, MqttRouting("test/numbers", qos=1))


async def count(host: ConnectorHost) -> None:
    """Send the numbers from 0, as fast as they go."""
    async with host.open_writer(COUNT) as writer:
        for number in itertools.count():
            await writer.send(number)


counting = Deployment("counting", count, [MqttConnector([COUNT])])


PARTS = Outbound("parts", int, MqttRouting("test/parts", qos=1), max_payload=64, window=256)
FIRST_PART, SECOND_PART = 10, 100
GO_ON = "TAKTORA_TEST_GO_ON"  # names a named pipe: once somebody has written to it, the second part is sent


async def send_in_two_parts(host: ConnectorHost) -> None:
    async with host.open_writer(PARTS) as writer:
        for number in range(FIRST_PART):
            await writer.send(number)
        await trio.to_thread.run_sync(Path(os.environ[GO_ON]).read_bytes, abandon_on_cancel=True)
        for number in range(SECOND_PART):
            await writer.send(FIRST_PART + number)
        os.write(1, b"all is sent\n")
        await trio.sleep_forever()


in_two_parts = Deployment(
    "in-two-parts", send_in_two_parts, [MqttConnector([PARTS], options=MqttOptions(drain_timeout=0.3))]
)


IDENTITY = Outbound("identity", Identity, MqttRouting("test/identity", qos=1, retain=True))


async def identify(host: ConnectorHost) -> None:
    """Tell who runs it, and which parts of a protocol stack its process has imported."""
    await host.wait_for_health(Up)
    stack = sorted({"aiomqtt", "paho", "trio_asyncio", "asyncio", "amqtt"} & set(sys.modules))
    async with host.open_writer(IDENTITY) as writer:
        await writer.send(Identity(f"{identify.__module__}.{identify.__qualname__}", os.getpid(), stack))
        await trio.sleep_forever()


identifying = Deployment("identifying", identify, [MqttConnector([IDENTITY])])


NUMBERS = Inbound("numbers", int, MqttRouting("test/numbers/#", qos=1), max_payload=64)
ANSWERS = Outbound("answers", str, MqttRouting("test/answers", qos=1), max_payload=200)


async def complain(host: ConnectorHost) -> None:
    """Answer each number with itself and its topic, and each error with its type; go on after every one."""
    async with host.open_reader(NUMBERS, on_error="raise") as numbers, host.open_writer(ANSWERS) as answers:
        while True:
            try:
                received = await numbers.receive()
                await answers.send(
                    "x" * received.value if received.value > 100 else f"{received.value} {received.topic}"
                )
            except (CodecError, PayloadOverflow) as exc:
                await answers.send(f"{type(exc).__name__} {getattr(exc, 'topic', '')}")


complaining = Deployment("complaining", complain, [MqttConnector([NUMBERS, ANSWERS])])


async def fall_silent(host: ConnectorHost) -> None:
    """Burn the process's time without a checkpoint, deaf to every polite request."""
    print("deaf from now on", flush=True)  # noqa: T201 - what a test waits for
    while True:
        pass


silent = Deployment("silent", fall_silent, [MqttConnector([TICKS])])


async def fail(host: ConnectorHost) -> None:
    """Raise as soon as it is connected."""
    await host.wait_for_health(Up)
    raise LookupError("the app's own fault")


failing = Deployment(
    "failing", fail, [MqttConnector([TICKS])], plugin_policy=RestartPolicy(restart="on-failure", intensity=2)
)


async def finish(host: ConnectorHost) -> None:
    """Send three ticks and return: what was sent last is still published."""
    async with host.open_writer(TICKS) as ticks:
        await host.wait_for_health(Up)
        for number in range(3):
            await ticks.send(Tick(number, os.getpid()))


finishing = Deployment("finishing", finish, [MqttConnector([TICKS])])


async def have_a_child(host: ConnectorHost) -> None:
    """It inherits whatever a child can."""
    child = await trio.lowlevel.open_process(["sleep", "600"], close_fds=False)
    try:
        os.write(1, b"a child is there\n")
        await trio.sleep_forever()
    finally:
        child.kill()
        with trio.CancelScope(shield=True):
            await child.wait()


parent = Deployment("parent", have_a_child, [MqttConnector([TICKS])])

# Two connectors, which may each have a broker of its own
on_two_brokers = Deployment(
    "on_two_brokers",
    have_a_child,
    [
        MqttConnector([Outbound("ticks", int, MqttRouting("test/ticks", qos=1))], name=name)
        for name in ("north", "south")
    ],
)
