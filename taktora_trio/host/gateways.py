"""Gateways: follows the gateways of a host's connectors, and carries out what `watch.step` decides."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial

import attrs
import trio

from taktora_trio.connectors.base import Connector
from taktora_trio.errors import ConnectorError, is_worth_logging
from taktora_trio.escaping import escaped
from taktora_trio.health import ConnectorHealth, Degraded, Failure, HealthBoard, Up
from taktora_trio.host import watch
from taktora_trio.opening import NoPublicConstructor
from taktora_trio.processes.link import GatewayFailed, GatewayStarted, LinkEnd
from taktora_trio.processes.pidfd import wait_for_exit
from taktora_trio.supervision.allowance import Allowance
from taktora_trio.transport.health import GatewayIdentity, HealthReport, HealthReports, open_health_reports, start_time
from taktora_trio.transport.ports import Node
from taktora_trio.transport.reconnection import Reconnection
from taktora_trio.transport.trunk import Trunk

__all__ = ["Gateways"]

log = logging.getLogger(__name__)

_SAID_WITHIN = 0.03  # seconds for the supervisor to say how a gateway has ended, from when we notice it ourselves
_BURST, _RATE = 64, 10.0  # reports of one connector that count each (a reader keeps as many), and so many more a second


class Gateways(metaclass=NoPublicConstructor, opened_by="open_watching_host(node, connectors)"):
    """The gateways of one host. `open_watching_host` makes it, for whoever runs a gateway in this process."""

    def __init__(
        self,
        node: Node,
        connectors: Sequence[Connector],
        board: HealthBoard,
        nursery: trio.Nursery,
        trunks: Mapping[str, Trunk],
        *,
        supervised: bool,
    ) -> None:
        """`trunks` are the app's ends by connector; a gateway that comes is handed what is waiting there."""
        self._node = node
        self._board = board
        self._nursery = nursery
        self._trunks = trunks
        # One for each connector, since each may have a gateway of its own.
        self._lives = {
            connector.name: watch.begin([connector.name], os.getpid(), supervised=supervised)
            for connector in connectors
        }
        self._watching: dict[tuple[str, GatewayIdentity], trio.CancelScope] = {}
        self._reports: dict[str, HealthReports] = {}
        self._reconnections: dict[str, Reconnection] = {}
        self._allowances = {connector.name: Allowance(_BURST, _RATE) for connector in connectors}
        self._skipped = self._unreadable = 0

    def failed(self, failure: Failure, crash: Exception | None, connectors: Collection[str] = ()) -> None:
        """Show that the gateway task of this process has ended, which had these connectors (none stands for all)."""
        self._take_all_reports()
        ended = watch.TaskFailed(GatewayIdentity.of_this_process(failure.incarnation), failure, crash)
        for name in connectors or self._lives:
            self._apply(name, ended)

    def hangs(self, reason: str, seconds: float, connectors: Collection[str] = ()) -> None:
        """Show that the gateway thread of this process gives no sign of life, for `seconds` if it is not renewed."""
        for name in connectors or self._lives:
            self._board.degrade(name, reason, seconds)

    def has_gateway(self, connector: str) -> bool:
        """Return whether a gateway of this connector runs, as far as is known."""
        return watch.has_gateway(self._lives[connector], connector)

    async def follow(self, connector: Connector) -> None:
        """Serve: take the reports of this connector. Runs until cancelled."""
        async with open_health_reports(self._node, self._trunks[connector.name].spec) as reports:
            name = connector.name
            self._reports[name] = reports
            self._reconnections[name] = reconnection = Reconnection(
                self._trunks[name],
                reports.ask,
                partial(self.has_gateway, name),
                lambda lacking: self._show(
                    name, self._lives[name].shown[name], lacking or "connected with the gateway"
                ),
            )
            self._nursery.start_soon(reconnection.serve)
            while True:
                self._take_reports(connector.name, reports)
                await trio.sleep(self._allowances[connector.name].delay)
                await reports.wait()

    async def follow_supervisor(self, link: LinkEnd) -> None:
        """Serve: hear from the supervisor how the gateway's process fares. Ends with the supervisor."""
        async for message in link.messages():
            match message:
                case GatewayStarted(pid=pid):
                    event: watch.Event = watch.Started(pid)
                case GatewayFailed(pid=pid, failure=failure):
                    event = watch.Failed(pid, failure)
                case _:
                    continue
            for name in message.connectors or self._lives:
                if name in self._lives:
                    self._apply(name, event)

    # What is carried out

    def _apply(self, name: str, event: watch.Event) -> None:
        self._lives[name], actions = watch.step(self._lives[name], event)
        for action in actions:
            match action:
                case watch.Show(connector, health, cause):
                    self._show(connector, health, cause)
                case watch.Watch(identity):
                    self._watching[name, identity] = scope = trio.CancelScope()
                    self._nursery.start_soon(self._watch, name, identity, scope)
                case watch.Unwatch(identity):
                    if watching := self._watching.pop((name, identity), None):
                        watching.cancel()
                case watch.AwaitFailed(identity):
                    self._nursery.start_soon(self._await_failed, name, identity)
                case watch.TakeAgain(report):
                    self._reported(report)

    def _show(self, name: str, health: ConnectorHealth, cause: BaseException | str | None) -> None:
        """Show the health of a gateway, which is not `Up` while it is not connected with us."""
        reconnection = self._reconnections.get(name)
        if reconnection is not None and reconnection.lacking and isinstance(health, Up | Degraded):
            said = f"{health.reason}; " if isinstance(health, Degraded) else ""
            health = Degraded(f"{said}not connected with the gateway: {reconnection.lacking}")
        self._board.report(name, health, cause)

    async def _watch(self, name: str, identity: GatewayIdentity, scope: trio.CancelScope) -> None:
        """Notice the end of a gateway process at once, though it is not our child.

        What it has left in shared memory its successor cleans up: iceoryx2 would hold up this process for 5 ms.
        """
        with scope:
            await _wait_for_end(identity)
            self._watching.pop((name, identity), None)
            self._take_all_reports()
            self._apply(name, watch.Ended(identity))

    async def _await_failed(self, name: str, identity: GatewayIdentity) -> None:
        await trio.sleep(_SAID_WITHIN)
        self._apply(name, watch.Overdue(identity))

    # Reports

    def _take_all_reports(self) -> None:
        """Take what a gateway reported before its end. What is found later does not count."""
        for name, reports in self._reports.items():
            self._take_reports(name, reports)

    def _take_reports(self, name: str, reports: HealthReports) -> None:
        """Apply each report; where there are too many, the newest alone: whatever a gateway does, the app goes on."""
        read = list(self._read(name, reports))
        if read:
            self._reconnections[name].look()  # one that has just come, or opens its half
        readable = [report for report in read if report is not None]
        if not self._allowances[name].take(len(read)):
            self._skipped += 1
            if is_worth_logging(self._skipped):
                log.warning(
                    "%s: the gateway reports its health too often, so only the newest report counts",
                    name,
                    extra={"event": "health-flood", "connector": name, "count": self._skipped},
                )
            readable = readable[-1:]
        for report in readable:
            self._reported(watch.Reported(name, report.identity, report.health, report.shown_cause))

    def _read(self, name: str, reports: HealthReports) -> Iterator[HealthReport | None]:
        with contextlib.suppress(trio.WouldBlock):
            for _ in range(_BURST):
                try:
                    yield reports.receive_nowait()
                except ConnectorError as exc:
                    self._unreadable += 1
                    if is_worth_logging(self._unreadable):
                        text = "%s: a health report can't be read (%d so far); is the gateway of another version? %s"
                        log.error(
                            text,
                            name,
                            self._unreadable,
                            escaped(str(exc)),
                            extra={"event": "health-unreadable", "connector": name, "count": self._unreadable},
                        )
                    yield None

    def _reported(self, report: watch.Reported) -> None:
        identity = report.identity
        if identity != self._lives[report.connector].present.get(report.connector) and identity.pid != os.getpid():
            report = attrs.evolve(report, is_alive=start_time(identity.pid) == identity.started)
        self._apply(report.connector, report)


async def _wait_for_end(identity: GatewayIdentity) -> None:
    while True:
        try:
            # The process id may have been given to another program before we looked: then that start time differs.
            if start_time(identity.pid) == identity.started:
                await wait_for_exit(identity.pid)
        except OSError as exc:  # no descriptor is left, and nothing announces that there is one again
            log.warning(
                "the gateway process (pid %d) can't be watched now: %s",
                identity.pid,
                exc,
                extra={"event": "gateway-unwatched"},
            )
            await trio.sleep(1)
        else:
            return
