"""The gateway as a task of the app's process, in the app's loop or in a thread with a loop of its own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial

import trio

from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.gateway import ConnectorGateway, open_connector_gateway
from taktora_trio.processes.link import ConnectorState
from taktora_trio.runners.chosen import Chosen
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.parts.arrival import Arrival, tell_until_up
from taktora_trio.runners.parts.gateway_thread import run_in_thread
from taktora_trio.runners.parts.incarnations import Incarnations
from taktora_trio.runners.parts.naming import warn_of_temporary_names
from taktora_trio.runners.parts.owning import OpenDomain
from taktora_trio.runners.parts.revival import STARTS_AGAIN, answer
from taktora_trio.supervision.supervisor import Runner
from taktora_trio.supervision.task import as_task
from taktora_trio.transport.node import open_node
from taktora_trio.transport.ports import Node

__all__ = ["GatewayTask"]

log = logging.getLogger(__name__)


class GatewayTask(Incarnations):
    """A gateway to supervise, as `as_task(task.run)`: each incarnation carries messages until `stop` is set."""

    def __init__(
        self,
        deployment: Deployment,
        opened: OpenDomain,
        on_hang: Callable[[str, float], None],
        *connectors: Connector,
    ) -> None:
        """Take all connectors of the deployment, or these alone. `on_hang` is for a gateway in a thread."""
        super().__init__()
        warn_of_temporary_names(deployment)
        self._tell_of_native_code(connectors or deployment.connectors)
        self._deployment = deployment
        self._connectors = connectors or deployment.connectors
        self._opened = opened
        self._half = f"gateway:{connectors[0].name}" if connectors else "gateway"
        self._on_hang = on_hang
        self._running: list[tuple[ConnectorGateway, trio.lowlevel.TrioToken]] = []  # none, or the one
        self._loop: trio.lowlevel.TrioToken | None = None

    @staticmethod
    def _tell_of_native_code(connectors: Sequence[Connector]) -> None:
        for connector in connectors:
            if (library := connector.native_library) is not None:
                log.info(
                    "%s: %s is native code with threads of its own, and in one process a crash of it ends the app, too;"
                    " with --mode split it ends the gateway alone",
                    connector.name,
                    library,
                    extra={"event": "native-inside", "connector": connector.name},
                )

    async def run(self, incarnation: int, chosen: Chosen | None = None) -> None:
        """Carry messages until `stop` is set or `leave` is called, then drain. `chosen` is another configuration."""
        connectors = self._connectors if chosen is None else self._chosen(chosen)
        self._loop = trio.lowlevel.current_trio_token()
        async with self.begin() as leave:
            if self._deployment.gateway_thread:
                work = partial(self._carry_in_thread, connectors, incarnation)
                await run_in_thread(work, leave, self._deployment.gateway_policy, self._on_hang)
            else:
                await self._carry(connectors, self._opened.node, incarnation, leave)

    def runner(self, chosen: Chosen) -> Runner:
        """Return a runner of a gateway with another configuration."""
        return as_task(partial(self.run, chosen=chosen))

    def revived(self, starts_again: bool) -> None:
        """Have the gateway connect at once, if it runs; `starts_again` says that it was given up."""
        if starts_again:
            answer(self._opened.domain, STARTS_AGAIN)
        elif not self._running:
            answer(self._opened.domain, "the gateway had ended, and starts now")
        for gateway, token in self._running:
            with contextlib.suppress(trio.RunFinishedError):  # a thread that has just ended
                token.run_sync_soon(self._connect_now, gateway)

    def _connect_now(self, gateway: ConnectorGateway) -> None:
        answer(self._opened.domain, gateway.revive())

    def _chosen(self, chosen: Chosen) -> Sequence[Connector]:
        mine = {connector.name for connector in self._connectors}
        return [connector for connector in chosen.deployment.connectors if connector.name in mine]

    async def _carry(self, connectors: Sequence[Connector], node: Node, incarnation: int, stop: trio.Event) -> None:
        async with open_connector_gateway(
            node,
            connectors,
            incarnation=incarnation,
            name=self._opened.domain.identity,
            observers=self._deployment.observers,
            folder=partial(self._deployment.folder, self._opened.domain.name),
            stores=self._deployment.stores(self._opened.domain.name),
            inbound_stores=self._deployment.inbound_stores(self._opened.domain.name),
            deployment=self._deployment.name,
            half=self._half,
        ) as gateway:
            self._running.append((gateway, trio.lowlevel.current_trio_token()))
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(tell_until_up, gateway.health, self._tell(self.arrival))
                    await gateway.run(stop)
                    nursery.cancel_scope.cancel()
            finally:
                self._running.clear()

    def _tell(self, arrival: Arrival) -> Callable[[ConnectorState], None]:
        """Return what takes in how a start goes, in whichever loop it is called."""
        if not self._deployment.gateway_thread:
            return arrival.said
        loop = self._loop
        assert loop is not None

        def tell(state: ConnectorState) -> None:
            with contextlib.suppress(trio.RunFinishedError):  # this thread was abandoned
                loop.run_sync_soon(arrival.said, state)

        return tell

    async def _carry_in_thread(self, connectors: Sequence[Connector], incarnation: int, stop: trio.Event) -> None:
        async with open_node(self._opened.domain, "gateway") as node:  # one for each thread, as iceoryx2 advises
            await self._carry(connectors, node, incarnation, stop)
