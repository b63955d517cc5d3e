"""The gateway as a task of the app's process, in the app's loop or in a thread with a loop of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import trio

from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.gateway import ConnectorGateway, open_connector_gateway
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.parts.gateway_thread import run_in_thread
from taktora_trio.runners.parts.naming import warn_of_temporary_names
from taktora_trio.runners.parts.owning import OpenDomain
from taktora_trio.runners.parts.revival import STARTS_AGAIN, answer
from taktora_trio.transport.node import open_node
from taktora_trio.transport.ports import Node

__all__ = ["GatewayTask"]


class GatewayTask:
    """A gateway to supervise, as `as_task(task.run)`: each incarnation carries messages until `stop` is set."""

    def __init__(
        self,
        deployment: Deployment,
        opened: OpenDomain,
        on_hang: Callable[[str, float], None],
        *connectors: Connector,
    ) -> None:
        """Take all connectors of the deployment, or these alone. `on_hang` is for a gateway in a thread."""
        warn_of_temporary_names(deployment)
        self.stop = trio.Event()
        self._deployment = deployment
        self._connectors = connectors or deployment.connectors
        self._opened = opened
        self._on_hang = on_hang
        self._running: list[tuple[ConnectorGateway, trio.lowlevel.TrioToken]] = []  # none, or the one

    async def run(self, incarnation: int) -> None:
        """Carry messages until `stop` is set, then drain."""
        if self._deployment.gateway_thread:
            work = partial(self._carry_in_thread, incarnation)
            await run_in_thread(work, self.stop, self._deployment.gateway_policy, self._on_hang)
        else:
            await self._carry(self._opened.node, incarnation, self.stop)

    def revived(self, starts_again: bool) -> None:
        """Have the gateway connect at once, if it runs; `starts_again` says that it was given up."""
        if starts_again:
            answer(self._opened.domain, STARTS_AGAIN)
        for gateway, token in self._running:
            with contextlib.suppress(trio.RunFinishedError):  # a thread that has just ended
                token.run_sync_soon(self._connect_now, gateway)

    def _connect_now(self, gateway: ConnectorGateway) -> None:
        answer(self._opened.domain, gateway.revive())

    async def _carry(self, node: Node, incarnation: int, stop: trio.Event) -> None:
        async with open_connector_gateway(
            node,
            self._connectors,
            incarnation=incarnation,
            name=self._opened.domain.identity,
            observers=self._deployment.observers,
            folder=partial(self._deployment.folder, self._opened.domain.name),
            stores=self._deployment.stores(self._opened.domain.name),
            inbound_stores=self._deployment.inbound_stores(self._opened.domain.name),
        ) as gateway:
            self._running.append((gateway, trio.lowlevel.current_trio_token()))
            try:
                await gateway.run(stop)
            finally:
                self._running.clear()

    async def _carry_in_thread(self, incarnation: int, stop: trio.Event) -> None:
        async with open_node(self._opened.domain, "gateway") as node:  # one for each thread, as iceoryx2 advises
            await self._carry(node, incarnation, stop)
