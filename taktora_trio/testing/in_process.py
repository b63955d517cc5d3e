"""The in-process shape under test: both halves in the test's process, with real shared memory and a real broker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio

from taktora_trio.host.host import ConnectorHost
from taktora_trio.host.open import open_watching_host
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.parts.gateway_task import GatewayTask
from taktora_trio.runners.parts.outlasting import open_outlasting
from taktora_trio.runners.parts.owning import open_domain
from taktora_trio.supervision.supervisor import Supervisor
from taktora_trio.testing.backend import Backend, Run
from taktora_trio.testing.reality import RealBackend, Reality, open_reality
from taktora_trio.testing.tasks import TaskBackend

__all__ = ["open_backend"]


@contextlib.asynccontextmanager
async def open_backend(deployment: Deployment, run: Run) -> AsyncIterator[Backend]:
    """Run the deployment in this process, at a real broker. See `Backend`."""
    async with open_reality(deployment, run) as reality:
        configured = run.configured(deployment, reality.settings).with_store(reality.store)
        configured.check_files()
        backend = _InProcessBackend(configured, run, reality)
        async with trio.open_nursery() as nursery:
            await nursery.start(backend.serve)
            yield backend
            backend.stop.set()


class _InProcessBackend(TaskBackend, RealBackend):
    def __init__(self, deployment: Deployment, run: Run, reality: Reality) -> None:
        super().__init__(deployment, run, reality.peers)
        self._reality = reality

    async def settle(self) -> None:
        await self._reality.settle()

    @contextlib.asynccontextmanager
    async def open_halves(self) -> AsyncIterator[ConnectorHost]:
        """As the shape itself does (`runners/scripts/in_process.py`), with a gateway that the test can kill."""
        deployment = self._deployment
        connectors, policy = deployment.connectors, deployment.gateway_policy
        async with (
            open_domain(self._reality.domain, connectors, "plugin", "gateway") as opened,
            open_watching_host(
                opened.node,
                connectors,
                revive=lambda: gateway.revive(),
                observers=deployment.observers,
                settings=deployment.app_settings,
                deployment=deployment.name,
            ) as (host, gateways),
        ):
            task = GatewayTask(deployment, opened, on_hang=gateways.hangs)
            gateway = Supervisor(
                "gateway",
                self.killable(task.run),
                policy,
                stop=task.stop,
                on_failure=lambda failure, exit_: gateways.failed(failure, exit_.exception),
                on_revived=task.revived,
            )
            async with open_outlasting(gateway.run, lambda scope: task.stop.set(), policy.stop_grace):
                yield host
