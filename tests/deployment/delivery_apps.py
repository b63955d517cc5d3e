"""The app of the table in docs/delivery.md: it does what a test tells it through a pipe, and prints what it hears."""

from __future__ import annotations

import os
import signal

import attrs
import msgspec
import trio

from taktora_trio import (
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
    Store,
)
from taktora_trio.connectors.base import GatewayChannels
from taktora_trio.connectors.connection import Client, OnMessage
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.policy import RestartPolicy
from tests.beside import run_beside
from tests.deployment.obedient import Obedient

VARIABLE = "TAKTORA_TEST_DELIVERY"
WINDOW = 50
MAX_PAYLOAD = 64
BACKLOG = 20_000
LEVELS = (0, 1, 2)


class Setting(msgspec.Struct):
    pipe: str = ""
    """The path of the pipe that its orders come from, one a line."""
    options: dict[str, object] = {}
    """Of `MqttOptions`."""
    store: str = ""
    """The folder of its store; empty for none."""
    window: int = WINDOW


setting = msgspec.json.decode(os.environ.get(VARIABLE, "{}"), type=Setting)


def _routing(name: str, qos: int) -> MqttRouting:
    return MqttRouting(f"delivery/{name}/{qos}", qos=qos)  # type: ignore[arg-type]


OUT = [
    Outbound(f"out{qos}", bytes, _routing("out", qos), window=setting.window, max_payload=MAX_PAYLOAD) for qos in LEVELS
]
IN = [Inbound(f"in{qos}", bytes, _routing("in", qos), window=setting.window, max_payload=MAX_PAYLOAD) for qos in LEVELS]


class CrashesWhenTold(MqttConnector):
    """Its gateway half raises at SIGUSR2."""

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        async def crash() -> None:
            with trio.open_signal_receiver(signal.SIGUSR2) as signals:
                async for _ in signals:
                    raise RuntimeError("crash on purpose")

        run_beside(channels, crash)
        return super().client(channels, on_message)


run = Obedient(setting.pipe, OUT, IN, stored=(1, 2))
_POLICY = RestartPolicy(backoff=Backoff(initial=0.02, maximum=0.1), intensity=1000, start_timeout=10.0)

deployment = Deployment(
    "delivery",
    run,
    [
        CrashesWhenTold(
            [*OUT, *IN],
            options=MqttOptions(
                reconnect=Backoff(initial=0.02, maximum=0.1),
                inbound_backlog=BACKLOG,
                **setting.options,  # type: ignore[arg-type]
            ),
            codec=RawCodec(),
        )
    ],
    gateway_policy=attrs.evolve(_POLICY, restart="always", stop_grace=2.5),
    plugin_policy=attrs.evolve(_POLICY, restart="on-failure"),
    store=Store(path=setting.store, policy="always") if setting.store else None,
)
