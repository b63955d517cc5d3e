"""The shape in memory: the app, the host and the gateway are tasks of the test, and the broker is an object."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import msgspec
import trio

from taktora_trio import boottime
from taktora_trio.connectors.gateway import ConnectorGateway, open_connector_gateway
from taktora_trio.connectors.peer import MemoryPeer
from taktora_trio.connectors.storing.stores import ConnectorStore
from taktora_trio.host.host import ConnectorHost
from taktora_trio.host.open import open_watching_host
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.parts.outlasting import open_outlasting
from taktora_trio.supervision.supervisor import Supervisor
from taktora_trio.testing.backend import Backend, Run
from taktora_trio.testing.standstill import open_standstill
from taktora_trio.testing.tasks import TaskBackend
from taktora_trio.transport.local import LocalNode

__all__ = ["open_backend"]

_TIDY = 5.0  # seconds for what a store has left on disk to be removed


@contextlib.asynccontextmanager
async def open_backend(deployment: Deployment, run: Run) -> AsyncIterator[Backend]:
    """Run the deployment in memory. See `Backend`."""
    token = f"memory-{uuid.uuid4().hex[:12]}"
    deployment = run.configured(deployment)
    async with contextlib.AsyncExitStack() as stack:
        peers: dict[str, MemoryPeer] = {}
        connectors = []
        for declared in deployment.connectors:
            connector, peer = declared.in_memory(
                token, declared.known_as(deployment.name), partial(run.journal.add, declared.name)
            )
            stack.callback(peer.close)
            peers[connector.name] = peer
            connectors.append(connector)
        await stack.enter_async_context(open_standstill())
        stack.enter_context(boottime.use(_virtual_boottime()))
        for peer in peers.values():
            await stack.enter_async_context(peer.opened())
        folder = await stack.enter_async_context(_open_folder(token))
        nursery = await stack.enter_async_context(trio.open_nursery())
        backend = _MemoryBackend(attrs.evolve(deployment, connectors=connectors), folder, run, peers)
        await nursery.start(backend.serve)
        yield backend
        backend.stop.set()


def _virtual_boottime() -> Callable[[], int]:
    """Return a clock that goes as trio's does: what waits while a virtual clock jumps gets older."""
    now, start = boottime.machine_clock(), trio.current_time()
    return lambda: now + int((trio.current_time() - start) * 1e9)


@contextlib.asynccontextmanager
async def _open_folder(token: str) -> AsyncIterator[Path]:
    """Yield a folder for what goes to disk after all, stores and dead letters. It is made when something does."""
    folder = Path(tempfile.gettempdir(), f"taktora-{token}")
    try:
        yield folder
    finally:
        if folder.exists():  # noqa: ASYNC240 - one look, instead of a thread each time
            with trio.move_on_after(_TIDY, shield=True):
                remove = partial(shutil.rmtree, folder, ignore_errors=True)
                await trio.to_thread.run_sync(remove, abandon_on_cancel=True)


class _MemoryBackend(TaskBackend):
    def __init__(self, deployment: Deployment, folder: Path, run: Run, peers: Mapping[str, MemoryPeer]) -> None:
        super().__init__(deployment, run, peers)
        self._folder = folder
        self._peers = peers
        self._node = LocalNode()
        self._gateway: ConnectorGateway | None = None

    @contextlib.asynccontextmanager
    async def open_halves(self) -> AsyncIterator[ConnectorHost]:
        """As the in-process shape does (`runners/scripts/in_process.py`), with a gateway that the test can kill."""
        deployment = self._deployment
        policy = deployment.gateway_policy
        async with open_watching_host(
            self._node,
            deployment.connectors,
            revive=lambda: gateway.revive(),
            observers=deployment.observers,
            settings=deployment.app_settings,
            deployment=deployment.name,
        ) as (host, gateways):
            stop = trio.Event()
            gateway = Supervisor(
                "gateway",
                self.killable(partial(self._carry, stop)),
                policy,
                stop=stop,
                on_failure=lambda failure, exit_: gateways.failed(failure, exit_.exception),
                on_revived=self._revived,
            )
            async with open_outlasting(gateway.run, lambda scope: stop.set(), policy.stop_grace):
                yield host

    async def _carry(self, stop: trio.Event, incarnation: int) -> None:
        """Carry messages until `stop` is set, then drain."""
        deployment = self._deployment
        async with open_connector_gateway(
            self._node,
            deployment.connectors,
            incarnation=incarnation,
            name=deployment.name,
            observers=deployment.observers,
            folder=lambda: self._folder,
            stores=self._in_folder(deployment.stores(deployment.name), "outbound"),
            inbound_stores=self._in_folder(deployment.inbound_stores(deployment.name), "inbound"),
            deployment=deployment.name,
        ) as self._gateway:
            await self._gateway.run(stop)

    def _in_folder(self, stores: Mapping[str, ConnectorStore], which: str) -> dict[str, ConnectorStore]:
        """Return the same stores in this test's own folder, wherever the app has them."""
        return {
            name: msgspec.structs.replace(store, folder=self._folder / which / name) for name, store in stores.items()
        }

    def _revived(self, starts_again: bool) -> None:
        if self._gateway is not None and not starts_again:
            self._gateway.revive()

    async def publish(self, connector: str, topic: str, payload: bytes, /, **how: Any) -> None:
        await trio.lowlevel.checkpoint()
        self._peers[connector].publish(topic, payload, **how)
