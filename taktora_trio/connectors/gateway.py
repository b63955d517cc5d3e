"""ConnectorGateway: the protocol's half. It serves a bridge for each connector, and reports its health."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import attrs
import trio

from taktora_trio.channels import Metadata, Routing
from taktora_trio.connectors.base import Connector, GatewayChannels
from taktora_trio.connectors.dead_letters.letters import DeadLetters, open_dead_letters
from taktora_trio.connectors.plan import channel_name, check_ends
from taktora_trio.errors import summary
from taktora_trio.health import FULL_FOR, Connecting, Down, HealthBoard, HealthEvent, Up
from taktora_trio.opening import NoPublicConstructor
from taktora_trio.statefolder import deployment_folder
from taktora_trio.tracing.fields import trace_alone
from taktora_trio.transport.bell import Waiter
from taktora_trio.transport.health import GatewayIdentity, HealthReporter, open_health_reporter
from taktora_trio.transport.lasting import LastingMemory
from taktora_trio.transport.ports import Node
from taktora_trio.transport.reconnection import Reconnection
from taktora_trio.transport.sink import PayloadSink, open_sink
from taktora_trio.transport.source import PayloadSource, open_source
from taktora_trio.transport.trunk import Trunk, announce, open_trunk

if TYPE_CHECKING:
    from taktora_trio.connectors.bridge import Bridge
    from taktora_trio.connectors.pump import Pump
    from taktora_trio.connectors.storing.inbound import StoredInbox
    from taktora_trio.connectors.storing.keeper import StoreKeeper
    from taktora_trio.connectors.storing.stores import ConnectorStore
    from taktora_trio.executor import Executor, ItemStats, Observer
    from taktora_trio.vitals.model import Channel
    from taktora_trio.vitals.model import Connector as ConnectorFigures
    from taktora_trio.vitals.record import HealthRecord
    from taktora_trio.vitals.serving import HalfFigures

__all__ = ["ConnectorGateway", "open_connector_gateway"]

log = logging.getLogger(__name__)


class ConnectorGateway(
    metaclass=NoPublicConstructor, opened_by="open_connector_gateway(node, connectors, incarnation=..., name=...)"
):
    """The gateway halves of some connectors, attached to shared memory. Use `open_connector_gateway`."""

    def __init__(
        self,
        connectors: Sequence[Connector],
        channels: dict[str, GatewayChannels],
        keepers: dict[str, StoreKeeper],
        stored_inboxes: dict[str, StoredInbox],
        reporters: dict[str, HealthReporter],
        trunks: Sequence[Trunk],
        health: HealthBoard,
        vitals: Callable[[ConnectorGateway], HalfFigures],
    ) -> None:
        self.health = health
        self._vitals = vitals
        self._connectors = connectors
        self._channels = channels
        self._keepers = keepers
        self._stored_inboxes = stored_inboxes
        self._reporters = reporters
        self._trunks = trunks
        self._bridges: dict[str, Bridge] = {}

    async def run(self, stop: trio.Event) -> None:
        """Carry messages until `stop` is set, then drain and return.

        An exception of a connector's half ends all of them: the gateway's supervisor starts it again as a whole.
        """
        from taktora_trio.connectors.bridge import Bridge  # here, for a supervisor imports this too, and is to be small

        for connector in self._connectors:
            self._bridges[connector.name] = Bridge(
                connector,
                self._channels[connector.name],
                stop,
                self._keepers.get(connector.name),
                self._stored_inboxes.get(connector.name),
            )
        from taktora_trio.vitals.serving import serve_vitals

        async with trio.open_nursery() as services:
            services.start_soon(self.health.expire)
            services.start_soon(serve_vitals, self._trunks[0].node, self._vitals(self))
            for (name, reporter), trunk in zip(self._reporters.items(), self._trunks, strict=True):
                reconnection = Reconnection(trunk, partial(self._repeat, name))
                services.start_soon(reporter.serve_newcomers, reconnection.look)
                services.start_soon(reconnection.serve)
            async with trio.open_nursery() as nursery:
                for name, bridge in self._bridges.items():
                    nursery.start_soon(bridge.serve, name=name)
            services.cancel_scope.cancel()

    async def _repeat(self, connector: str) -> None:
        """Have the plugin look for what we have for it."""
        await self._reporters[connector].repeat(self.health.state(connector))

    def revive(self) -> str:
        """Have each connector that is not connected try at once, and ask again at once for what was refused.

        Returns a text that says what each connector does. Dead letters that were marked to be sent again are sent, too.
        """
        for bridge in self._bridges.values():
            bridge.send_letters()
        done = []
        for connector in self._connectors:
            state = self.health.state(connector.name)
            if isinstance(state, Up):
                done.append(f"{connector.name}: is connected, so there is nothing to revive")
            else:
                done.append(f"{connector.name}: revived: tries at once; it was {state}")
                if connector.name in self._bridges:  # else its first attempt is yet to come
                    self._bridges[connector.name].revive()
            log.info("%s", done[-1], extra={"event": "connects-now", "connector": connector.name})
        return ", ".join(done)

    def stalled(self) -> str | None:
        """Return the work that could be done and was not since the last call; `None` if there is none.

        Ask regularly: a gateway that has stalled is to give no sign of life.
        """
        return next((reason for bridge in self._bridges.values() if (reason := bridge.stalled())), None)

    def figures(self) -> Iterator[Channel]:
        """Yield what it can tell of each of its channels now."""
        from taktora_trio.connectors.figures import gateway_figures  # nobody asks a supervisor

        for connector, trunk in zip(self._connectors, self._trunks, strict=True):
            name = connector.name
            bridge, dead_letters = self._bridges[name], self._channels[name].dead_letters
            keeper, inbox = self._keepers.get(name), self._stored_inboxes.get(name)
            for channel in connector.channels:
                yield gateway_figures(connector, channel, trunk, bridge, keeper, inbox, dead_letters)

    def connectors(self, record: HealthRecord) -> list[ConnectorFigures]:
        """Return what it can tell of each of its connectors now, with what `record` has of the past."""
        return [
            record.connector(name, self.health, bridge.peer, max(0, bridge.connections - 1))
            for name, bridge in self._bridges.items()
        ]

    def stats(self) -> dict[str, ItemStats]:
        """Return the figures of its pumps, each `gateway.CONNECTOR`."""
        executors = (channels.executor for channels in self._channels.values())
        return {name: stats for executor in executors for name, stats in executor.stats().items()}

    def report_crash(self, exc: Exception) -> None:
        """Report the error by which this process is about to end. The plugin, no parent of it, learns no more."""
        for connector in self._connectors:
            self.health.report(connector.name, Down(f"the gateway crashed: {summary(exc)}"), exc)


@contextlib.asynccontextmanager
async def open_connector_gateway(
    node: Node,
    connectors: Sequence[Connector],
    *,
    incarnation: int,
    name: str,
    observers: Iterable[Observer] = (),
    folder: Callable[[], Path] | None = None,
    stores: Mapping[str, ConnectorStore] | None = None,
    inbound_stores: Mapping[str, ConnectorStore] | None = None,
    deployment: str = "",
    half: str = "gateway",
) -> AsyncIterator[ConnectorGateway]:
    """Open the gateway's end of every channel; the services must exist.

    `incarnation` counts the gateway's starts, so that a report of a crashed one is told apart. `name` is what its
    connectors call it at the other end. `observers` see its pumps, which are items of an executor. `folder` returns
    where the deployment keeps what is on disk, by default a folder of the present user's for this name. `stores` are
    those of connectors that keep outbound messages on disk (`Deployment.stores`), `inbound_stores` of those that keep
    inbound ones there. `deployment` and `half` are names that it is shown by (`taktora_trio.vitals`).
    """
    # Here, for a supervisor imports this module too, and is to be small.
    from taktora_trio.connectors.pump import Pump
    from taktora_trio.executor import Executor
    from taktora_trio.vitals.record import HealthRecord
    from taktora_trio.vitals.serving import HalfFigures

    specs = check_ends(connectors, "gateway")
    identity = GatewayIdentity.of_this_process(incarnation)
    async with contextlib.AsyncExitStack() as stack:
        reporters = {
            one: await stack.enter_async_context(open_health_reporter(node, spec, identity))
            for one, spec in specs.items()
        }
        for one, spec in specs.items():
            # A plugin that hears of us lets go of what a killed gateway has left: that may be the memory we need.
            announce(node, spec, "gateway")
            reporters[one].report(Connecting())
        record = HealthRecord(specs)

        def on_event(event: HealthEvent) -> None:
            record.note(event)
            reporters[event.component].forward(event)

        health = HealthBoard(reporters, on_event=on_event)
        stack.callback(health.close)
        dead_letters = await stack.enter_async_context(
            open_dead_letters(
                folder or partial(deployment_folder, name), {one.name: one.options for one in connectors}, health
            )
        )
        trunks = [await stack.enter_async_context(open_trunk(node, spec, "gateway")) for spec in specs.values()]
        channels = {
            connector.name: await _open_channels(
                stack,
                trunk,
                connector,
                health,
                connector.known_as(name),
                Executor(observers=observers),
                Pump(Waiter(trunk.bell)),
                dead_letters,
                stored=_stored(connector, stores or {}),
            )
            for connector, trunk in zip(connectors, trunks, strict=True)
        }
        keepers = _with_stores(connectors, channels, stores or {})
        stored_inboxes = _with_inbound_stores(connectors, channels, inbound_stores or {}, dead_letters)
        _with_traces(connectors, channels)
        for reporter in reporters.values():
            reporter.report(Connecting())

        def vitals(gateway: ConnectorGateway) -> HalfFigures:
            count = sum(len(connector.channels) for connector in connectors)
            of_connectors = partial(gateway.connectors, record)
            return HalfFigures(half, deployment, incarnation, record, of_connectors, gateway.figures, count)

        yield ConnectorGateway._create(connectors, channels, keepers, stored_inboxes, reporters, trunks, health, vitals)


async def _open_channels(
    stack: contextlib.AsyncExitStack,
    trunk: Trunk,
    connector: Connector,
    health: HealthBoard,
    name: str,
    executor: Executor,
    pump: Pump,
    dead_letters: DeadLetters,
    *,
    stored: Container[str],
) -> GatewayChannels:
    outbound: dict[str, PayloadSource] = {}
    inbound: dict[str, PayloadSink] = {}
    for channel in connector.channels:
        await trio.lowlevel.checkpoint()  # with thousands of channels it is to give signs of life meanwhile
        whole = channel_name(connector, channel)
        if channel.direction == "out":
            # The app's writer lets nothing else through; but what the other side doesn't take would end the
            # connection, again and again.
            lends = connector.takes_views and channel.name not in stored
            source = open_source(trunk, whole, channel.routing.address, _check_by(channel.routing), lends=lends)
            outbound[channel.name] = stack.enter_context(source)
        else:
            full = partial(health.degrade, connector.name, f"channel {channel.name} is full", FULL_FOR)
            keep = trace_alone if connector.trace_space and not channel.max_metadata else None
            inbound[channel.name] = stack.enter_context(open_sink(trunk, whole, on_full=full, keep=keep))
    memory = LastingMemory(trunk.node, connector.name)
    stack.callback(memory.close)
    return GatewayChannels(outbound, inbound, executor, health, name, memory.open, dead_letters, pump)


def _stored(connector: Connector, stores: Mapping[str, ConnectorStore]) -> Container[str]:
    """Return the names of the outbound channels that are kept on disk."""
    store = stores.get(connector.name)
    return () if store is None else store.channels


def _with_stores(
    connectors: Sequence[Connector], channels: dict[str, GatewayChannels], stores: Mapping[str, ConnectorStore]
) -> dict[str, StoreKeeper]:
    """Put a log on disk between shared memory and the outboxes, for the channels that have one."""
    if not stores:
        return {}
    from taktora_trio.connectors.storing.keeper import StoreKeeper  # most gateways have none

    keepers = {}
    for connector in connectors:
        if (store := stores.get(connector.name)) is not None:
            of = channels[connector.name]
            opened = cast("Mapping[str, PayloadSource]", of.outbound)
            keepers[connector.name] = keeper = StoreKeeper(connector, store, opened, of.health)
            channels[connector.name] = attrs.evolve(of, outbound={**of.outbound, **keeper.sources})
    return keepers


def _with_inbound_stores(
    connectors: Sequence[Connector],
    channels: dict[str, GatewayChannels],
    stores: Mapping[str, ConnectorStore],
    dead_letters: DeadLetters,
) -> dict[str, StoredInbox]:
    """Put a log on disk between the inboxes and shared memory, for the channels that have one."""
    if not stores:
        return {}
    from taktora_trio.connectors.storing.inbound import StoredInbox  # most gateways have none

    return {
        connector.name: StoredInbox(
            connector,
            stores[connector.name],
            channels[connector.name].inbound,
            channels[connector.name].health,
            dead_letters,
            channels[connector.name].pump,
        )
        for connector in connectors
        if connector.name in stores
    }


def _with_traces(connectors: Sequence[Connector], channels: dict[str, GatewayChannels]) -> None:
    """Publish each message in a span of its trace, for the connectors that say so."""
    for connector in connectors:
        if connector.trace_space:
            from taktora_trio.connectors.traced import TracedSource  # most gateways have none

            of, addresses = channels[connector.name], {one.name: one.routing.address for one in connector.channels}
            traced = {name: TracedSource(source, name, addresses[name]) for name, source in of.outbound.items()}
            channels[connector.name] = attrs.evolve(of, outbound=traced)


def _check_by(routing: Routing) -> Callable[[str, Metadata | None], None]:
    """Return what raises `MessageError` for a concrete topic and metadata that can't be published by this routing."""

    def check(topic: str, metadata: Metadata | None) -> None:
        if topic:
            routing.check_topic(topic)
        if metadata is not None:
            routing.check_metadata(metadata)

    return check
