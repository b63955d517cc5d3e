"""The shape in memory: the app, the host and the gateway are tasks of the test, and the broker is an object."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import msgspec
import trio
from trio_util import move_on_when

from taktora_trio.channels import Metadata
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.gateway import ConnectorGateway, open_connector_gateway
from taktora_trio.connectors.peer import MemoryPeer
from taktora_trio.connectors.storing.stores import ConnectorStore
from taktora_trio.errors import ConfigError, collapse
from taktora_trio.health import ConnectorHealth
from taktora_trio.host.host import ConnectorHost
from taktora_trio.host.open import open_watching_host
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.loading import load_app
from taktora_trio.runners.parts.app import run_app
from taktora_trio.runners.parts.outlasting import open_outlasting
from taktora_trio.supervision.supervisor import Supervisor
from taktora_trio.supervision.task import as_task
from taktora_trio.testing.backend import Backend, Run
from taktora_trio.testing.standstill import open_standstill
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.local import LocalNode

__all__ = ["GatewayKilled", "MemoryBackend", "open_backend"]

_TIDY = 5.0  # seconds for what a store has left on disk to be removed


class GatewayKilled(Exception):
    """The test has killed the gateway."""


@contextlib.asynccontextmanager
async def open_backend(deployment: Deployment, run: Run) -> AsyncIterator[Backend]:
    """Run the deployment in memory. See `Backend`."""
    token = f"memory-{uuid.uuid4().hex[:12]}"
    name = Domain(deployment.name).identity
    async with contextlib.AsyncExitStack() as stack:
        peers: dict[str, MemoryPeer] = {}
        connectors = []
        for declared in deployment.connectors:
            connector, peer = declared.in_memory(
                token, declared.known_as(name), partial(run.journal.add, declared.name)
            )
            stack.callback(peer.close)
            peers[connector.name] = peer
            connectors.append(connector)
        await stack.enter_async_context(open_standstill())
        folder = await stack.enter_async_context(_open_folder(token))
        nursery = await stack.enter_async_context(trio.open_nursery())
        backend = MemoryBackend(attrs.evolve(deployment, connectors=connectors), name, folder, run, peers)
        await nursery.start(backend.serve)
        yield backend
        backend.stop.set()


@contextlib.asynccontextmanager
async def _open_folder(token: str) -> AsyncIterator[Path]:
    """Yield a folder for what goes to disk after all, stores and dead letters. It is made when something does."""
    folder = Path(tempfile.gettempdir(), f"taktora-{token}")
    try:
        yield folder
    finally:
        with trio.move_on_after(_TIDY, shield=True):
            await trio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True), abandon_on_cancel=True)


class MemoryBackend(Backend):
    """Runs a deployment whose connectors have their other side in memory. Use `open_backend`."""

    def __init__(
        self, deployment: Deployment, name: str, folder: Path, run: Run, peers: Mapping[str, MemoryPeer]
    ) -> None:
        """`name` is the gateway's at the other side."""
        self.stop = trio.Event()
        self._deployment = deployment
        self._app = None if deployment.app is None else load_app(deployment)
        self._name = name
        self._folder = folder
        self._run = run
        self._peers = peers
        self._connectors = {connector.name: connector for connector in deployment.connectors}
        self._node = LocalNode()
        self._host: ConnectorHost | None = None
        self._gateway: ConnectorGateway | None = None
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
        """As the in-process shape does (`runners/scripts/in_process.py`), with a gateway that the test can kill."""
        deployment = self._deployment
        policy = deployment.gateway_policy
        async with open_watching_host(
            self._node,
            deployment.connectors,
            revive=lambda: gateway.revive(),
            observers=deployment.observers,
            settings=deployment.app_settings,
        ) as (host, gateways):
            stop = trio.Event()
            gateway = Supervisor(
                "gateway",
                as_task(partial(self._run_gateway, stop)),
                policy,
                stop=stop,
                on_failure=lambda failure, exit_: gateways.failed(failure, exit_.exception),
                on_revived=self._revived,
            )
            async with open_outlasting(gateway.run, lambda scope: stop.set(), policy.stop_grace):
                yield host

    async def _run_gateway(self, stop: trio.Event, incarnation: int) -> None:
        """Carry messages until `stop` is set, or the test kills it."""
        deployment = self._deployment
        with trio.CancelScope() as self._killing:
            async with open_connector_gateway(
                self._node,
                deployment.connectors,
                incarnation=incarnation,
                name=self._name,
                observers=deployment.observers,
                folder=lambda: self._folder,
                stores=self._in_folder(deployment.stores(deployment.name), "outbound"),
                inbound_stores=self._in_folder(deployment.inbound_stores(deployment.name), "inbound"),
            ) as self._gateway:
                await self._gateway.run(stop)
        if self._killing.cancelled_caught:
            raise GatewayKilled("the test has killed it")

    def _in_folder(self, stores: Mapping[str, ConnectorStore], which: str) -> dict[str, ConnectorStore]:
        """Return the same stores in this test's own folder, wherever the app has them."""
        return {
            name: msgspec.structs.replace(store, folder=self._folder / which / name) for name, store in stores.items()
        }

    def _revived(self, starts_again: bool) -> None:
        if self._gateway is not None and not starts_again:
            self._gateway.revive()

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
