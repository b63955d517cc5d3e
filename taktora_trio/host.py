"""ConnectorHost: what an app gets. It opens writers and readers, and knows each connector's health."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import trio

from taktora_trio.channel import ChannelDescriptor, Inbound, Outbound
from taktora_trio.connector import Connector
from taktora_trio.errors import ConfigError, ConnectorError, summary
from taktora_trio.health import FULL_FOR, ConnectorHealth, Down, HealthBoard, HealthEvent, HealthEvents
from taktora_trio.supervision.process import wait_for_exit
from taktora_trio.transport.domain import Node, clean_up_dead_nodes
from taktora_trio.transport.health import GatewayIdentity, HealthReport, open_health_reader, start_time
from taktora_trio.transport.ports import EnvelopePublisher, open_envelope_publisher
from taktora_trio.transport.reader import ChannelReader, open_reader
from taktora_trio.transport.services import channel_spec, health_spec
from taktora_trio.transport.writer import ChannelWriter

__all__ = ["ConnectorHost", "open_connector_host"]

T = TypeVar("T")
log = logging.getLogger(__name__)

_FLUSH_TIMEOUT = 1.0  # seconds that the app's end may take for the gateway to take what it sent last


class ConnectorHost:
    """The app's view of its connectors, the same in both deployment shapes. The app function is called with it."""

    def __init__(self, node: Node, connectors: Sequence[Connector], board: HealthBoard, nursery: trio.Nursery) -> None:
        self._node = node
        self._board = board
        self._nursery = nursery
        self._owners = {id(channel): connector for connector in connectors for channel in connector.channels}
        self._in_use: set[int] = set()
        self._gateways: dict[str, GatewayIdentity] = {}
        self._watched: set[GatewayIdentity] = set()
        self._dead: set[GatewayIdentity] = set()
        # Ports outlive the writers that the app opens and closes, so that all are flushed at once, at the end.
        self._ports = contextlib.AsyncExitStack()
        self._publishers: dict[int, EnvelopePublisher] = {}
        self._reports: dict[str, ChannelReader[HealthReport]] = {}

    def __repr__(self) -> str:
        return f"ConnectorHost({self._board!r})"

    @contextlib.asynccontextmanager
    async def open_writer(self, channel: Outbound[T]) -> AsyncIterator[ChannelWriter[T]]:
        """Open the app's end of an outbound channel, for as long as the block lasts.

        Raises `ConfigError` for a channel that the deployment does not declare, and `trio.BusyResourceError` if it is
        open already: a channel has one writer, which any number of tasks may share.
        """
        connector = self._connector_of(channel, Outbound, "open_reader")
        full = partial(self._board.degrade, connector.name, f"channel {channel.name} is full", FULL_FOR)
        with self._reserve(channel):
            if id(channel) not in self._publishers:
                port = open_envelope_publisher(self._node, channel_spec(connector, channel))
                self._publishers[id(channel)] = await self._ports.enter_async_context(port)
            encode = connector.codec.encoder(channel.message_type)
            async with ChannelWriter(self._publishers[id(channel)], encode, full) as writer:
                yield writer

    @contextlib.asynccontextmanager
    async def open_reader(self, channel: Inbound[T]) -> AsyncIterator[ChannelReader[T]]:
        """Open the app's end of an inbound channel, for as long as the block lasts. Raises as `open_writer` does."""
        connector = self._connector_of(channel, Inbound, "open_writer")
        with self._reserve(channel):
            spec, topic = channel_spec(connector, channel), channel.routing.address
            async with open_reader(self._node, spec, channel.message_type, connector.codec, topic) as reader:
                if reports := self._reports.get(connector.name):
                    reports.tell()  # by this the gateway learns that somebody is there
                yield reader

    def health(self, connector: str | None = None) -> ConnectorHealth:
        """The present health of the connector of that name; it may be left out where there is only one."""
        return self._board.state(self._name_of(connector))

    def health_events(self) -> HealthEvents:
        """Subscribe to every change of health from now on: `async for event in host.health_events()`."""
        return self._board.events()

    async def wait_for_health(self, *kinds: type[ConnectorHealth], connector: str | None = None) -> ConnectorHealth:
        """Wait until the connector's health is of one of these kinds, and return it; at once if it is already."""
        return await self._board.wait_for(self._name_of(connector), *kinds)

    def _name_of(self, connector: str | None) -> str:
        names = list(self._board.states())
        if connector is None and len(names) == 1:
            return names[0]
        if connector not in names:
            raise ConfigError(f"there is no connector {connector!r} in this deployment: name one of {', '.join(names)}")
        return connector

    def _connector_of(self, channel: ChannelDescriptor[Any], kind: type, other: str) -> Connector:
        if not isinstance(channel, kind):
            raise ConfigError(f"{channel!r} is no {kind.__name__} channel: use {other} for it")
        connector = self._owners.get(id(channel))
        if connector is None:
            raise ConfigError(f"channel {channel.name!r} belongs to no connector of this deployment: declare it there")
        return connector

    @contextlib.contextmanager
    def _reserve(self, channel: ChannelDescriptor[Any]) -> Iterator[None]:
        if id(channel) in self._in_use:
            raise trio.BusyResourceError(f"channel {channel.name!r} is open already: share that one between tasks")
        self._in_use.add(id(channel))
        try:
            yield
        finally:
            self._in_use.discard(id(channel))

    async def _close(self, seconds: float) -> None:
        """Let the gateway publish what the app has sent; say so if it can't in that time; then close every port."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + seconds):
            async with trio.open_nursery() as nursery:
                for port in self._publishers.values():
                    nursery.start_soon(port.flush)
        for port in self._publishers.values():
            if port.waiting > 0:
                log.warning("%s: closed with %d messages not acknowledged", port.spec.name, port.waiting)
        await self._ports.aclose()

    # What the host is told of its gateway

    def gateway_crashed(self, incarnation: int, exc: Exception | None, reason: str) -> None:
        """The gateway task of this process has ended."""
        self._dead.add(GatewayIdentity.of_this_process(incarnation))
        for name in self._board.states():
            self._board.report(name, Down(reason), exc or reason)

    async def _follow(self, connector: Connector) -> None:
        async with open_health_reader(self._node, health_spec(connector)) as reports:
            self._reports[connector.name] = reports
            while True:
                try:
                    received = await reports.receive()
                except ConnectorError:  # whatever a gateway may write there, the app goes on
                    log.exception("%s: a health report of the gateway can't be read", connector.name)
                else:
                    self._take_report(connector.name, received.value)

    def _take_report(self, name: str, report: HealthReport) -> None:
        identity = report.identity
        if identity in self._dead:
            return  # what a dead gateway had said is no news
        if identity != self._gateways.get(name):
            self._gateways[name] = identity
            for port in self._publishers.values():
                port.update_connections()  # what is waiting is for this one now
        if identity.pid != os.getpid() and identity not in self._watched:
            self._watched.add(identity)
            self._nursery.start_soon(self._watch, identity)
        self._board.report(name, report.health, report.cause or None)

    async def _watch(self, identity: GatewayIdentity) -> None:
        """Notice the end of a gateway process at once, though it is not our child, and whoever else has died."""
        # The process id may have been given to another program before we looked: then that start time differs.
        if start_time(identity.pid) == identity.started:
            await wait_for_exit(identity.pid)
        self._watched.discard(identity)
        self._dead.add(identity)
        reason = f"the gateway process (pid {identity.pid}) ended"
        for name, state in self._board.states().items():
            if not isinstance(state, Down):  # its own last words say more
                self._board.report(name, Down(reason), reason)
        await clean_up_dead_nodes(self._node)


def _log_event(event: HealthEvent) -> None:
    cause = event.cause
    if isinstance(cause, BaseException):
        cause = summary(cause)  # with its traceback it was logged where it was caught
    told = f" because {cause}" if cause and str(cause) not in str(event.after) else ""
    log.info("health of %s: %s -> %s%s", event.component, event.before, event.after, told)


@contextlib.asynccontextmanager
async def open_connector_host(node: Node, connectors: Sequence[Connector]) -> AsyncIterator[ConnectorHost]:
    """The host of these connectors; the services must exist. Health is followed while the block lasts."""
    board = HealthBoard((connector.name for connector in connectors), on_event=_log_event)
    async with trio.open_nursery() as nursery:
        host = ConnectorHost(node, connectors, board, nursery)
        nursery.start_soon(board.expire)
        for connector in connectors:
            nursery.start_soon(host._follow, connector)
        try:
            yield host
        finally:
            gateway_works = not all(isinstance(state, Down) for state in board.states().values())
            await host._close(_FLUSH_TIMEOUT if gateway_works else 0)
            board.close()
            nursery.cancel_scope.cancel()
