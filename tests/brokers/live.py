"""A deployment in this process, its gateway the real one, with the test in the app's place."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import attrs
import trio
from trio_util import AsyncValue

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.channels.codec import RawCodec
from taktora_trio.connectors.mqtt.connector import MqttConnector
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.health import HealthEvent, HealthEvents, Up
from taktora_trio.host.host import ConnectorHost
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.scripts.in_process import run_in_process
from taktora_trio.transport.domain import Domain

__all__ = ["Live", "open_live"]


@attrs.define
class Live:
    """The app's end of a run."""

    host: ConnectorHost
    events: list[HealthEvent] = attrs.field(factory=list)
    """Every transition so far."""
    _count: AsyncValue[int] = attrs.field(factory=lambda: AsyncValue(0))

    async def until_up(self, seconds: float = 20) -> None:
        with trio.fail_after(seconds):
            await self.host.wait_for_health(Up)

    async def until_transitions(self, count: int, seconds: float = 20) -> list[HealthEvent]:
        """Wait for `count` of them, and return these."""
        with trio.fail_after(seconds):
            await self._count.wait_value(lambda seen: seen >= count)
        return self.events[:count]

    async def watch(self, events: HealthEvents) -> None:
        async for event in events:
            self.events.append(event)
            self._count.value += 1


@contextlib.asynccontextmanager
async def open_live(
    channels: Iterable[ChannelDescriptor[Any]], options: MqttOptions, domain: Domain, **more: Any
) -> AsyncIterator[Live]:
    """It runs while the block does; the channels carry bytes as they are."""
    handed, hosts = trio.open_memory_channel[tuple[ConnectorHost, HealthEvents]](1)
    stop = trio.Event()

    async def app(host: ConnectorHost) -> None:
        await handed.send((host, host.health_events()))  # before anything happens, so that not even the first is missed
        await trio.sleep_forever()

    deployment = Deployment("live", app, [MqttConnector(channels, options=options, codec=RawCodec())], **more)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_in_process, deployment, domain, stop)
        with trio.fail_after(20):
            host, events = await hosts.receive()
        live = Live(host)
        async with trio.open_nursery() as watching:
            watching.start_soon(live.watch, events)
            try:
                yield live
            finally:
                watching.cancel_scope.cancel()
        stop.set()
