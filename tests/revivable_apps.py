"""Deployments whose gateway fails for as long as a file exists, to be given up and revived."""

from __future__ import annotations

import os
from pathlib import Path

import trio

from taktora_trio import Backoff, ConnectorHost, Deployment, Down, MqttConnector, MqttRouting, Outbound, RestartPolicy
from taktora_trio.connectors.base import GatewayChannels
from taktora_trio.connectors.connection import Client, OnMessage
from taktora_trio.health import Up
from tests.beside import run_beside

CAUSE_VARIABLE = "TAKTORA_TEST_CAUSE"
"""The environment variable with the path of that file."""
SEEN = Outbound("seen", str, MqttRouting("test/seen", qos=1))


def cause() -> Path:
    return Path(os.environ.get(CAUSE_VARIABLE, "/nonexistent"))


class FailsMeanwhile(MqttConnector):
    """Its gateway half raises at once while the file exists, and soon after it has appeared."""

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        async def fail_when_told() -> None:
            while not cause().exists():  # noqa: ASYNC110 - a file that appears announces nothing
                await trio.sleep(0.01)
            raise RuntimeError("the cause is not mended")

        run_beside(channels, fail_when_told)
        return super().client(channels, on_message)


QUICK = RestartPolicy(restart="always", intensity=1, backoff=Backoff(initial=0.02, maximum=0.05))


async def watch(host: ConnectorHost) -> None:
    """Tell each change of health, and go on."""
    async for event in host.health_events():
        failure = event.after.failure if isinstance(event.after, Down) else None
        given_up = ", given up" if failure and failure.gave_up else ""
        print(f"{type(event.after).__name__}{given_up}", flush=True)  # noqa: T201 - what a test waits for


watching = Deployment("watching", watch, [FailsMeanwhile([SEEN])], gateway_policy=QUICK)


async def mend(host: ConnectorHost) -> None:
    """Mend the cause and have the gateway revived, as soon as it is given up; end when it works again."""
    host.revive_gateway()  # works already: nothing happens
    async for event in host.health_events():
        if isinstance(event.after, Down) and event.after.failure and event.after.failure.gave_up:
            print("mends it:", event.after.failure, flush=True)  # noqa: T201 - what a test waits for
            cause().unlink()
            host.revive_gateway()
            await host.wait_for_health(Up)
            return


mending = Deployment("mending", mend, [FailsMeanwhile([SEEN])], gateway_policy=QUICK)


async def go_on(host: ConnectorHost) -> None:
    await trio.sleep_forever()


class NeverStarts(MqttConnector):
    """Its gateway half raises before it has done anything."""

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        raise ImportError("libprotocol.so.1: no such file")


never_starting = Deployment("never-starting", go_on, [NeverStarts([SEEN])], gateway_policy=QUICK)
