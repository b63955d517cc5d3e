"""An app that goes on while its gateway is replaced: it sends numbers without a pause, and tells what it sees."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import trio

from taktora_trio import (
    Backoff,
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RestartPolicy,
    Up,
)
from taktora_trio.connectors.base import GatewayChannels
from taktora_trio.connectors.connection import Client, OnMessage

BREAKS = "TAKTORA_TEST_BREAKS"
"""The environment variable with a path: a gateway fails at its start while the file exists."""

ONCE = Outbound("once", int, MqttRouting("reload/once", qos=2), window=16)
LEAST = Outbound("least", int, MqttRouting("reload/least", qos=1), window=16)
COME = Inbound("come", int, MqttRouting("reload/come", qos=1), window=16)
STOP = Inbound("stop", int, MqttRouting("reload/stop", qos=1))


def tell(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - the tests read it


class Breaks(MqttConnector):
    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        if Path(os.environ.get(BREAKS, "/nonexistent")).exists():
            raise RuntimeError("broken on purpose")
        return super().client(channels, on_message)


async def count(host: ConnectorHost, channel: Outbound[int], stop: trio.Event) -> None:
    async with host.open_writer(channel) as writer:
        for number in itertools.count():
            if stop.is_set():
                break
            await writer.send(number)
            await trio.sleep(0.002)
        tell("sent", channel.name, number)


async def show(host: ConnectorHost) -> None:
    async with host.open_reader(COME) as reader:
        async for received in reader:
            tell("come", received.value)


async def watch(host: ConnectorHost) -> None:
    async for event in host.health_events():
        tell(event.component, type(event.after).__name__)


async def app(host: ConnectorHost) -> None:
    """Run until a message says stop; then say how many numbers were sent, which must all arrive."""
    tell("app", os.getpid())
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, host)
        nursery.start_soon(show, host)
        async with trio.open_nursery() as counting:
            counting.start_soon(count, host, ONCE, stop)
            counting.start_soon(count, host, LEAST, stop)
            async with host.open_reader(STOP) as reader:
                await reader.receive()
            stop.set()
        await host.wait_for_health(Up)
        nursery.cancel_scope.cancel()


QUICK = RestartPolicy(restart="always", intensity=1, backoff=Backoff(initial=0.02, maximum=0.05))
OPTIONS = MqttOptions(client_id="reloaded", reconnect=Backoff(initial=0.05, maximum=0.2))
CHANNELS = [ONCE, LEAST, COME, STOP]

deployment = Deployment("reloading", app, [Breaks(CHANNELS, options=OPTIONS)], gateway_policy=QUICK)
in_thread = Deployment("reloading", app, [Breaks(CHANNELS, options=OPTIONS)], gateway_policy=QUICK, gateway_thread=True)
