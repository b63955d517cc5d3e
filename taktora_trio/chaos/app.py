"""The app under test: it ticks, publishes numbers, hears them again, and tells its observer what it sees.

A protocol adds the connector, by which a broker gives the numbers back.
"""

from __future__ import annotations

import itertools
import os
import time
from functools import partial

import attrs
import trio

from taktora_trio.channels import Inbound, Outbound
from taktora_trio.chaos.telemetry import Health, Hello, Teller, Tick, open_teller
from taktora_trio.connectors.base import Connector
from taktora_trio.health import Down, HealthEvents
from taktora_trio.host.host import ConnectorHost
from taktora_trio.host.reader import ChannelReader
from taktora_trio.host.writer import ChannelWriter
from taktora_trio.runners.deployment import Deployment
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.policy import RestartPolicy

__all__ = ["RECONNECT", "TICK", "WATCHDOG", "Numbered", "deploy"]

TICK = 0.01  # seconds between two ticks
WATCHDOG = 1.0  # seconds
RECONNECT = Backoff(initial=0.05, maximum=0.5)  # fast, so that many faults fit into a short time
_PACE = 0.005  # seconds between two messages


@attrs.frozen
class Numbered:
    """A message of the load. Each process of the app counts from 1 in a series of its own."""

    series: str
    number: int


class _App:
    """Shared by its tasks."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._series = f"{os.getpid()}-{time.time_ns()}"
        self._sent = 0
        self._echoed = 0
        self._flooding = False
        teller.tell(Hello(os.getpid(), self._series))

    async def tick(self, host: ConnectorHost) -> None:
        while True:
            health = host.health()
            failure = health.failure.kind if isinstance(health, Down) and health.failure is not None else ""
            self._teller.tell(Tick(time.monotonic(), self._sent, self._echoed, failure))
            await trio.sleep(TICK)

    async def publish(self, writer: ChannelWriter[Numbered]) -> None:
        for number in itertools.count(1):
            await writer.send(Numbered(self._series, number))
            self._sent = number
            await trio.sleep(0 if self._flooding else _PACE)

    async def hear(self, reader: ChannelReader[Numbered]) -> None:
        async for received in reader:
            if received.value.series == self._series:
                self._echoed = max(self._echoed, received.value.number)

    async def tell_health(self, events: HealthEvents) -> None:
        async for event in events:
            cause = str(event.cause or "")
            self._teller.tell(Health(time.monotonic(), str(event.before), str(event.after), cause))

    async def obey(self) -> None:
        async for order in self._teller.orders():
            self._flooding = order.flood


async def run(host: ConnectorHost, numbers: Outbound[Numbered], echo: Inbound[Numbered]) -> None:
    """Run until it is cancelled. The other side gives back as `echo` what is sent to `numbers`."""
    events = host.health_events()  # before anything is awaited, so that not even the first is missed
    with open_teller() as teller:
        app = _App(teller)
        async with (
            host.open_writer(numbers) as writer,
            host.open_reader(echo) as reader,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(app.tick, host)
            nursery.start_soon(app.tell_health, events)
            nursery.start_soon(app.obey)
            nursery.start_soon(app.hear, reader)
            await app.publish(writer)


_POLICY = RestartPolicy(
    backoff=RECONNECT,
    intensity=10_000,
    start_timeout=10.0,  # seconds; a machine that is merely busy takes some for a start
    watchdog=WATCHDOG,
    stop_grace=1.5,
)


def deploy(connector: Connector, numbers: Outbound[Numbered], echo: Inbound[Numbered]) -> Deployment:
    """Declare the deployment under test."""
    return Deployment(
        "chaos",
        partial(run, numbers=numbers, echo=echo),
        [connector],
        gateway_policy=attrs.evolve(_POLICY, restart="always"),
        plugin_policy=_POLICY,
    )
