"""ConnectorHost: what an app gets. It opens writers and readers, and knows each connector's health."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import trio
from trio_util import move_on_when

from taktora_trio.channels import ChannelDescriptor, Inbound, Outbound
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.plan import channel_spec, check_ends, health_spec
from taktora_trio.errors import ConfigError, ConnectorError, is_telling, summary
from taktora_trio.escaping import escaped
from taktora_trio.health import (
    FULL_FOR,
    Connecting,
    ConnectorHealth,
    Degraded,
    Down,
    Failure,
    HealthBoard,
    HealthEvent,
    HealthEvents,
    Up,
)
from taktora_trio.processes.child.supervisor_link import SupervisorLink
from taktora_trio.processes.link import GatewayFailed, GatewayStarted, ReviveGateway
from taktora_trio.processes.patience import sleep_running
from taktora_trio.processes.pidfd import wait_for_exit
from taktora_trio.supervision.allowance import Allowance
from taktora_trio.transport.health import GatewayIdentity, HealthReport, open_health_reader, start_time
from taktora_trio.transport.node import Node
from taktora_trio.transport.ports import EnvelopePublisher, open_envelope_publisher
from taktora_trio.transport.reader import ChannelReader, open_reader
from taktora_trio.transport.writer import ChannelWriter

if TYPE_CHECKING:  # a supervisor imports this module too, and is to be small
    from taktora_trio.executor import Observer

__all__ = ["ConnectorHost", "open_connector_host"]

T = TypeVar("T")
log = logging.getLogger(__name__)

_WORD = 0.03  # seconds that the supervisor may take to say how a gateway has ended, which we have noticed ourselves
_BURST, _RATE = 64, 10.0  # reports of one connector that count each (a reader keeps as many), and so many more a second
_WATCHED = 4  # gateway processes at most: one, or some more for a moment, unless what they report is not true
_FLUSH_TIMEOUT = 1.0  # seconds that the app's end may take for the gateway to take what it sent last


class ConnectorHost:
    """The app's view of its connectors, the same in both deployment shapes. The app function is called with it."""

    def __init__(
        self,
        node: Node,
        connectors: Sequence[Connector],
        board: HealthBoard,
        nursery: trio.Nursery,
        revive: Callable[[], object] | None,
        supervised: bool,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.observers = observers
        """The deployment's, for the app's executors: `Executor(observers=host.observers)`."""
        self._node = node
        self._board = board
        self._nursery = nursery
        self._owners = {id(channel): connector for connector in connectors for channel in connector.channels}
        self._in_use: set[int] = set()
        self._gateways: dict[str, GatewayIdentity] = {}
        self._watched: dict[GatewayIdentity, trio.CancelScope] = {}
        self._dead: deque[GatewayIdentity] = deque(maxlen=64)  # of which there may still be reports to read
        self._revive = revive
        self._supervised = supervised  # whether a supervisor tells which process is our gateway
        self._started: GatewayStarted | None = None  # the gateway that it has started last
        self._early: dict[str, HealthReport] = {}  # of a process of which it has not told, perhaps not yet
        self._unexplained = False  # whether an end was shown of which the supervisor has not told
        self._failures: dict[int, Failure] = {}  # by process id, as the supervisor tells
        self._told = trio.Event()
        # Ports outlive the writers that the app opens and closes, so that all are flushed at once, at the end.
        self._ports = contextlib.AsyncExitStack()
        self._publishers: dict[int, EnvelopePublisher] = {}
        self._reports: dict[str, ChannelReader[HealthReport]] = {}
        self._allowances = {connector.name: Allowance(_BURST, _RATE) for connector in connectors}
        self._skipped = self._unreadable = 0

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
            routing, topic_of = channel.routing, channel.routing.topic_of(channel.message_type)
            opened = ChannelWriter(
                self._publishers[id(channel)], encode, full, routing, topic_of, connector.check_carries_metadata
            )
            async with opened as writer:
                yield writer

    @contextlib.asynccontextmanager
    async def open_reader(self, channel: Inbound[T]) -> AsyncIterator[ChannelReader[T]]:
        """Open the app's end of an inbound channel, for as long as the block lasts. Raises as `open_writer` does."""
        connector = self._connector_of(channel, Inbound, "open_writer")
        with self._reserve(channel):
            spec, topic = channel_spec(connector, channel), channel.routing.address
            opening = open_reader(
                self._node, spec, channel.message_type, connector.codec, topic, routing=channel.routing
            )
            async with opening as reader:
                if reports := self._reports.get(connector.name):
                    reports.tell()  # by this the gateway learns that somebody is there
                yield reader

    def health(self, connector: str | None = None) -> ConnectorHealth:
        """The present health of the connector of that name; it may be left out where there is only one."""
        return self._board.state(self._name_of(connector))

    def states(self) -> dict[str, ConnectorHealth]:
        """The present health of every connector, by name."""
        return self._board.states()

    def health_events(self) -> HealthEvents:
        """Subscribe to every change of health from now on: `async for event in host.health_events()`."""
        return self._board.events()

    async def wait_for_health(self, *kinds: type[ConnectorHealth], connector: str | None = None) -> ConnectorHealth:
        """Wait until the connector's health is of one of these kinds, and return it; at once if it is already."""
        return await self._board.wait_for(self._name_of(connector), *kinds)

    def revive_gateway(self) -> None:
        """Have the gateway started again if it was given up; else have it connect at once, where it is not connected,
        and ask the broker again for what it refused.

        Raises `ConfigError` where the supervisor is not ours.
        """
        if self._revive is None:
            raise ConfigError(
                "the gateway's supervisor is not ours: start it there, for example by systemctl start; one that runs"
                " connects at once at `taktora-trio revive`"
            )
        self._revive()

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
        with trio.CancelScope(shield=True):
            async with move_on_when(sleep_running, seconds), trio.open_nursery() as nursery:
                for port in self._publishers.values():
                    nursery.start_soon(port.flush)
        for channel, port in self._publishers.items():
            # What a gateway still has to publish is for it to tell of, at its own end.
            if port.waiting > 0 and not (port.has_reader and self._has_gateway(self._owners[channel].name)):
                told = "%s: closed with %d messages not acknowledged by the broker: they are lost"
                log.warning(told, port.spec.name, port.waiting)
        await self._ports.aclose()

    def _has_gateway(self, connector: str) -> bool:
        identity = self._gateways.get(connector)
        return identity is not None and identity not in self._dead

    # What the host is told of its gateway

    def gateway_failed(self, failure: Failure, crash: Exception | None) -> None:
        """The gateway task of this process has ended."""
        self._has_ended(GatewayIdentity.of_this_process(failure.incarnation))
        self._show_failure(failure, crash)

    def gateway_hangs(self, reason: str, seconds: float) -> None:
        """The gateway thread of this process gives no sign of life. Shown for `seconds` more, if it is not renewed."""
        for name in self._board.states():
            self._board.degrade(name, reason, seconds)

    async def follow_supervisor(self, link: SupervisorLink) -> None:
        """Serve: hear from the supervisor how the gateway's process fares. Ends with the supervisor."""
        async for message in link.messages():
            match message:
                case GatewayStarted():
                    self._started = message
                    early, self._early = self._early, {}
                    for name, report in early.items():
                        self._take_report(name, report)
                case GatewayFailed(pid=pid, failure=failure):
                    if any(identity.pid == pid for identity in self._watched):
                        self._failures[pid] = failure
                        self._told.set()
                        self._told = trio.Event()
                    else:  # it did not live to report to us, or we have shown its end already
                        self._show_failure(failure, None)

    def _show_failure(self, failure: Failure, crash: Exception | None) -> None:
        for name, state in self._board.states().items():
            by_itself = failure.kind in ("exit", "exception") and not failure.gave_up
            if by_itself and isinstance(state, Down) and state.failure is None and not self._unexplained:
                shown = attrs.evolve(state, failure=failure)  # its own last words were the event already
            else:
                shown = Down(f"the gateway's {failure}", failure=failure)
            self._board.report(name, shown, crash or str(failure))
        self._unexplained = False

    async def _follow(self, connector: Connector) -> None:
        async with open_health_reader(self._node, health_spec(connector)) as reports:
            self._reports[connector.name] = reports
            while True:
                self._take_reports(connector.name, reports)
                await trio.sleep(self._allowances[connector.name].delay)
                await reports.wait()

    def _take_reports(self, name: str, reports: ChannelReader[HealthReport]) -> None:
        """Each of them counts; where they are too many, the newest alone: whatever a gateway does, the app goes on."""
        read = list(self._read_reports(name, reports))
        readable = [report for report in read if report is not None]
        if not self._allowances[name].take(len(read)):
            self._skipped += 1
            if is_telling(self._skipped):
                log.warning("%s: the gateway reports its health too often, so only the newest report counts", name)
            readable = readable[-1:]
        for report in readable:
            self._take_report(name, report)

    def _read_reports(self, name: str, reports: ChannelReader[HealthReport]) -> Iterator[HealthReport | None]:
        with contextlib.suppress(trio.WouldBlock):
            for _ in range(_BURST):
                try:
                    yield reports.receive_nowait().value
                except ConnectorError as exc:
                    self._unreadable += 1
                    if is_telling(self._unreadable):
                        told = "%s: a health report can't be read (%d so far); is the gateway of another version? %s"
                        log.error(told, name, self._unreadable, escaped(str(exc)))
                    yield None

    def _has_ended(self, identity: GatewayIdentity) -> None:
        """What it reported up to its end counts, though we come to read it only now; nothing found later does."""
        for name, reports in self._reports.items():
            self._take_reports(name, reports)
        self._dead.append(identity)

    def _take_report(self, name: str, report: HealthReport) -> None:
        identity, state = report.identity, report.health
        of_us = identity.pid == os.getpid()
        if identity in self._dead:
            return  # what a dead gateway had said is no news
        if self._supervised and (self._started is None or self._started.pid != identity.pid):
            self._early[name] = report
            return
        if identity != self._gateways.get(name):
            if not of_us and start_time(identity.pid) != identity.started:
                self._dead.append(identity)  # it ended before we came
                return
            self._gateways[name] = identity
            for port in self._publishers.values():
                port.update_connections()  # what is waiting is for this one now
        if not of_us and identity not in self._watched:
            while len(self._watched) >= _WATCHED:
                self._watched.pop(next(iter(self._watched))).cancel()
            self._watched[identity] = trio.CancelScope()
            self._nursery.start_soon(self._watch, identity, self._watched[identity])
        if isinstance(self._board.state(name), Down) and isinstance(state, Up | Degraded):
            self._board.report(name, Connecting())  # that came between, before we listened or while we could not
        self._board.report(name, state, report.told_cause)

    async def _watch(self, identity: GatewayIdentity, scope: trio.CancelScope) -> None:
        """Notice the end of a gateway process at once, though it is not our child.

        What it has left in shared memory its successor cleans up: iceoryx2 would hold up this process for 5 ms.
        """
        with scope:
            await _wait_for_end(identity)
            await self._show_end(identity)

    async def _show_end(self, identity: GatewayIdentity) -> None:
        self._has_ended(identity)
        if self._supervised:
            with trio.move_on_after(_WORD):
                while identity.pid not in self._failures:
                    await self._told.wait()
        self._watched.pop(identity, None)
        if failure := self._failures.pop(identity.pid, None):
            self._show_failure(failure, None)
        else:
            self._unexplained = True
            reason = f"the gateway process (pid {identity.pid}) ended"
            for name, state in self._board.states().items():
                if not isinstance(state, Down):  # its own last words say more
                    self._board.report(name, Down(reason), reason)


async def _wait_for_end(identity: GatewayIdentity) -> None:
    while True:
        try:
            # The process id may have been given to another program before we looked: then that start time differs.
            if start_time(identity.pid) == identity.started:
                await wait_for_exit(identity.pid)
        except OSError as exc:  # no descriptor is left, and nothing announces that there is one again
            log.warning("the gateway process (pid %d) can't be watched now: %s", identity.pid, exc)
            await trio.sleep(1)
        else:
            return


def _log_event(event: HealthEvent) -> None:
    cause = event.cause
    if isinstance(cause, BaseException):
        cause = summary(cause)  # with its traceback it was logged where it was caught
    told = f" because {cause}" if cause and str(cause) not in str(event.after) else ""
    log.info("health of %s: %s -> %s%s", event.component, type(event.before).__name__, event.after, told)


@contextlib.asynccontextmanager
async def open_connector_host(
    node: Node,
    connectors: Sequence[Connector],
    *,
    link: SupervisorLink | None = None,
    revive: Callable[[], object] | None = None,
    observers: Sequence[Observer] = (),
) -> AsyncIterator[ConnectorHost]:
    """The host of these connectors; the services must exist. Health is followed while the block lasts.

    `link` leads to the supervisor, if the gateway has one of ours; `revive` is what revives it in this process.
    """
    check_ends(connectors, "the app's half")
    if link is not None:
        revive = partial(link.send, ReviveGateway())
    board = HealthBoard((connector.name for connector in connectors), on_event=_log_event)
    async with trio.open_nursery() as nursery:
        host = ConnectorHost(node, connectors, board, nursery, revive, link is not None, observers)
        nursery.start_soon(board.expire)
        if link is not None:
            nursery.start_soon(host.follow_supervisor, link)
        for connector in connectors:
            nursery.start_soon(host._follow, connector)
        try:
            yield host
        finally:
            gateway_works = not all(isinstance(state, Down) for state in board.states().values())
            await host._close(_FLUSH_TIMEOUT if gateway_works else 0)
            board.close()
            nursery.cancel_scope.cancel()
