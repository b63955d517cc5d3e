"""The app of the table in docs/zenoh-delivery.md, and the one on the other side of the network."""

from __future__ import annotations

import os
import signal
from typing import Any

import attrs
import msgspec
import trio

from taktora_trio import Deployment, Inbound, Outbound, RawCodec, Store, ZenohConnector, ZenohOptions, ZenohRouting
from taktora_trio.connectors.base import GatewayChannels
from taktora_trio.connectors.connection import Client, OnMessage
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.policy import RestartPolicy
from tests.beside import run_beside
from tests.deployment.obedient import Obedient

VARIABLE = "TAKTORA_TEST_ZENOH_DELIVERY"
MAX_PAYLOAD = 64
WINDOW = 50
BACKLOG = 60_000
BEST_EFFORT, RELIABLE, RECOVERED, ACKNOWLEDGED = LEVELS = range(4)
KEPT = 100


class Setting(msgspec.Struct):
    pipe: str = ""
    """The path of the pipe that its orders come from, one a line."""
    store: str = ""
    """The folder of its store; empty for none."""


setting = msgspec.json.decode(os.environ.get(VARIABLE, "{}"), type=Setting)
BACKOFF = Backoff(initial=0.02, maximum=0.1)


def _outbound(name: str, max_payload: int = MAX_PAYLOAD) -> list[Outbound[bytes]]:
    options: list[dict[str, Any]] = [
        {"reliability": "best-effort", "congestion_control": "drop"},
        {},
        {"recover": KEPT},
        {"acknowledged": True},
    ]
    return [
        Outbound(
            f"out{level}",
            bytes,
            ZenohRouting(f"delivery/{name}/{level}", **options[level]),
            window=WINDOW,
            max_payload=max_payload,
        )
        for level in LEVELS
    ]


def _inbound(name: str) -> list[Inbound[bytes]]:
    options: list[dict[str, Any]] = [{}, {}, {"recover": KEPT}, {"acknowledged": True}]
    return [
        Inbound(
            f"in{level}",
            bytes,
            ZenohRouting(f"delivery/{name}/{level}", **options[level]),
            window=WINDOW,
            max_payload=MAX_PAYLOAD,
        )
        for level in LEVELS
    ]


OUT, IN = _outbound("out"), _inbound("in")
OUTSIDE_OUT, OUTSIDE_IN = _outbound("in", 2 * MAX_PAYLOAD), _inbound("out")


class CrashesWhenTold(ZenohConnector):
    """Its gateway half raises at SIGUSR2."""

    def client(self, channels: GatewayChannels, on_message: OnMessage) -> Client:
        async def crash() -> None:
            with trio.open_signal_receiver(signal.SIGUSR2) as signals:
                async for _ in signals:
                    raise RuntimeError("crash on purpose")

        run_beside(channels, crash)
        return super().client(channels, on_message)


def outside(endpoint: str) -> Deployment:
    """Whoever is there beside the app: it acknowledges as our apps do, and sends again."""
    options = ZenohOptions(connect=endpoint, reconnect=BACKOFF)
    return Deployment("outside", None, [ZenohConnector([*OUTSIDE_OUT, *OUTSIDE_IN], options=options, codec=RawCodec())])


_POLICY = RestartPolicy(backoff=BACKOFF, intensity=1000, start_timeout=10.0)

deployment = Deployment(
    "delivery",
    Obedient(setting.pipe, OUT, IN, stored=(ACKNOWLEDGED,), written=(BEST_EFFORT, RELIABLE, RECOVERED)),
    [
        CrashesWhenTold(
            [*OUT, *IN],
            options=ZenohOptions(reconnect=BACKOFF, inbound_backlog=BACKLOG),
            codec=RawCodec(),
        )
    ],
    gateway_policy=attrs.evolve(_POLICY, restart="always", stop_grace=2.5),
    plugin_policy=attrs.evolve(_POLICY, restart="on-failure"),
    store=Store(path=setting.store, policy="always") if setting.store else None,
)
