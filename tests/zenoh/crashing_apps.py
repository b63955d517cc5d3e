"""Deployments whose gateway can be made to die in native code, in a thread that Python knows nothing of."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import attrs
import trio

from taktora_trio import (
    ConnectorHost,
    Deployment,
    Inbound,
    Outbound,
    RawCodec,
    RestartPolicy,
    Up,
    ZenohConnector,
    ZenohRouting,
)
from taktora_trio.connectors.base import GatewayChannels
from taktora_trio.connectors.connection import Client, OnMessage
from tests.beside import run_beside

REQUEST = Inbound("request", bytes, ZenohRouting("test/request"))
REPLY = Outbound("reply", bytes, ZenohRouting("test/reply"))

DEATHS: dict[str, Callable[[], object]] = {
    "null": lambda: ctypes.string_at(0),  # a null pointer, dereferenced by the C library
    "abort": lambda: ctypes.CDLL(None).abort(),  # as Rust does where it can't go on, such as at a lack of memory
    "raise": lambda: os.kill(os.getpid(), signal.SIGSEGV),
}


@attrs.frozen
class Breakable(ZenohConnector):
    """Its gateway dies as `DEATHS` says when somebody puts to test/die/NAME: in a thread of the library."""

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        import zenoh

        def die(sample: zenoh.Sample) -> None:
            DEATHS[str(sample.key_expr).rpartition("/")[2]]()

        config = zenoh.Config()
        config.insert_json5("mode", '"client"')
        config.insert_json5("connect/endpoints", json.dumps(list(self.options.places)))
        config.insert_json5("transport/shared_memory/enabled", "false")  # it would leave a file in /dev/shm
        kept.append(zenoh.open(config))
        kept[-1].declare_subscriber("test/die/*", zenoh.handlers.Callback(die, indirect=False))
        return super().client(channels, on_message)


kept: list[Any] = []


@attrs.frozen
class Blocking(ZenohConnector):
    """Its gateway stays in a call that never returns, with a session of the library open."""

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        async def block() -> None:
            await channels.health.wait_for(self.name, Up)
            time.sleep(1e6)  # noqa: ASYNC251 - that is what is tried

        run_beside(channels, block)
        return super().client(channels, on_message)


async def echo(host: ConnectorHost) -> None:
    """Send back what comes; print each change of health as the app sees it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(show_health, host)
        async with host.open_reader(REQUEST) as requests, host.open_writer(REPLY) as replies:
            async for request in requests:
                await replies.send(request.value)


async def show_health(host: ConnectorHost) -> None:
    async for event in host.health_events():
        print("health", event.after, flush=True)  # noqa: T201


in_a_thread = Deployment(
    "blocking",
    echo,
    [Blocking([REQUEST, REPLY], codec=RawCodec())],
    gateway_policy=RestartPolicy(stop_grace=0.5, watchdog=0.5),
    gateway_thread=True,
)
deployment = Deployment("breakable", echo, [Breakable([REQUEST, REPLY], codec=RawCodec())])
