"""The shape in memory: the app, the host and the gateway are tasks of the test, and the broker is an object."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Collection, Mapping
from functools import partial
from itertools import count
from typing import Any

import attrs
import trio
from trio_util import move_on_when

from taktora_trio.channels import Metadata
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.peer import MemoryPeer
from taktora_trio.errors import ConfigError, collapse
from taktora_trio.health import ConnectorHealth
from taktora_trio.host.host import ConnectorHost
from taktora_trio.host.open import open_watching_host
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.loading import load_app
from taktora_trio.runners.parts.app import run_app
from taktora_trio.runners.parts.gateway_task import GatewayTask
from taktora_trio.runners.parts.outlasting import open_outlasting
from taktora_trio.runners.parts.owning import open_domain
from taktora_trio.supervision.supervisor import Supervisor
from taktora_trio.supervision.task import as_task
from taktora_trio.testing.backend import Backend, Run
from taktora_trio.testing.standstill import open_standstill
from taktora_trio.transport.domain import Domain

__all__ = ["GatewayKilled", "MemoryBackend", "open_backend"]

_runs = count(1)


class GatewayKilled(Exception):
    """The test has killed the gateway."""


@contextlib.asynccontextmanager
async def open_backend(deployment: Deployment, run: Run) -> AsyncIterator[Backend]:
    """Run the deployment in memory. See `Backend`."""
    domain = Domain(f"memory-{uuid.uuid4().hex[:12]}")
    number = next(_runs)
    peers: dict[str, MemoryPeer] = {}
    connectors = []
    try:
        for connector in deployment.connectors:
            name = connector.known_as(domain.identity)
            inner, peers[connector.name] = connector.in_memory(
                f"memory-{number}", name, partial(run.journal.add, connector.name)
            )
            connectors.append(inner)
        # A thread has a clock of its own, and the test's may be virtual.
        declared = attrs.evolve(deployment, connectors=connectors, gateway_thread=False)
        backend = MemoryBackend(declared, domain, run, peers)
        async with open_standstill(), trio.open_nursery() as nursery:
            await nursery.start(backend.serve)
            yield backend
            backend.stop.set()
    finally:
        for peer in peers.values():
            peer.close()


class MemoryBackend(Backend):
    """Runs a deployment whose connectors have their other side in memory. Use `open_backend`."""

    def __init__(self, deployment: Deployment, domain: Domain, run: Run, peers: Mapping[str, MemoryPeer]) -> None:
        self.stop = trio.Event()
        self._deployment = deployment
        self._app = None if deployment.app is None else load_app(deployment)
        self._domain = domain
        self._run = run
        self._peers = peers
        self._connectors = {connector.name: connector for connector in deployment.connectors}
        self._host: ConnectorHost | None = None
        self._killing: trio.CancelScope | None = None

    # The run

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run both halves until the app returns or `stop` is set."""
        failure: Exception | None = None
        try:
            async with self._open_halves() as host:
                self._host = host
                task_status.started()
                async with move_on_when(self.stop.wait):
                    try:
                        await run_app(_be_the_test if self._app is None else self._app, host)
                    except Exception as exc:  # noqa: BLE001 - it is the test's, as it is and not in a group
                        failure = exc
        except Exception as exc:
            if self._host is None:
                raise
            failure = failure or collapse(exc)
        self._run.ended(failure)

    @contextlib.asynccontextmanager
    async def _open_halves(self) -> AsyncIterator[ConnectorHost]:
        """As the in-process shape does, with a gateway that the test can kill."""
        deployment = self._deployment
        connectors, policy = deployment.connectors, deployment.gateway_policy
        async with (
            open_domain(self._domain, connectors, "plugin", "gateway") as opened,
            open_watching_host(
                opened.node,
                connectors,
                revive=lambda: gateway.revive(),
                observers=deployment.observers,
                settings=deployment.app_settings,
            ) as (host, gateways),
        ):
            task = GatewayTask(deployment, opened, on_hang=gateways.hangs)

            async def run(incarnation: int) -> None:
                with trio.CancelScope() as self._killing:
                    await task.run(incarnation)
                if self._killing.cancelled_caught:
                    raise GatewayKilled("the test has killed it")

            gateway = Supervisor(
                "gateway",
                as_task(run),
                policy,
                stop=task.stop,
                on_failure=lambda failure, exit_: gateways.failed(failure, exit_.exception),
                on_revived=task.revived,
            )
            async with open_outlasting(gateway.run, lambda scope: task.stop.set(), policy.stop_grace):
                yield host

    # What the test asks for

    @property
    def connectors(self) -> Mapping[str, Connector]:
        return self._connectors

    @property
    def host(self) -> ConnectorHost:
        if self._app is not None or self._host is None:
            raise ConfigError(
                f"the app of deployment {self._deployment.name!r} has the host: publish and expect, or test a"
                " deployment with app=None, and be the app"
            )
        return self._host

    def states(self) -> Mapping[str, ConnectorHealth]:
        assert self._host is not None
        return self._host.states()

    async def wait_for_health(self, connector: str, kinds: tuple[type[ConnectorHealth], ...]) -> ConnectorHealth:
        assert self._host is not None
        return await self._host.wait_for_health(*kinds, connector=connector)

    async def publish(
        self,
        connector: str,
        topic: str,
        payload: bytes,
        *,
        metadata: Metadata | None,
        correlation_id: bytes,
        retain: bool,
        options: Mapping[str, Any],
    ) -> None:
        await trio.lowlevel.checkpoint()
        self._peers[connector].publish(
            topic, payload, metadata=metadata, correlation_id=correlation_id, retain=retain, **options
        )

    def cut(self, connectors: Collection[str]) -> None:
        for name in connectors:
            self._peers[name].cut()

    @contextlib.asynccontextmanager
    async def slow(self, connectors: Collection[str], seconds: float) -> AsyncIterator[None]:
        for name in connectors:
            self._peers[name].set(delay=seconds)
        try:
            yield
        finally:
            for name in connectors:
                self._peers[name].set(delay=0)

    @contextlib.asynccontextmanager
    async def unreachable(self, connectors: Collection[str]) -> AsyncIterator[None]:
        for name in connectors:
            self._peers[name].set(unreachable=True)
            self._peers[name].cut()
        try:
            yield
        finally:
            for name in connectors:
                self._peers[name].set(unreachable=False)

    @contextlib.asynccontextmanager
    async def refused(self, connectors: Collection[str]) -> AsyncIterator[None]:
        for name in connectors:
            self._peers[name].set(refusing=True)
            self._peers[name].cut()
        try:
            yield
        finally:
            for name in connectors:
                self._peers[name].set(refusing=False)

    def kill_gateway(self) -> None:
        if self._killing is not None:
            self._killing.cancel()

    async def revive(self) -> None:
        await trio.lowlevel.checkpoint()
        assert self._host is not None
        self._host.revive_gateway()


async def _be_the_test(host: ConnectorHost) -> None:
    """Stand for the app of a deployment that has none."""
    await trio.sleep_forever()
