"""TaskBackend: the app, the host and the gateway as tasks of the test."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager

import trio
from trio_util import move_on_when

from taktora_trio.connectors.base import Connector
from taktora_trio.errors import ConfigError, collapse
from taktora_trio.health import ConnectorHealth
from taktora_trio.host.host import ConnectorHost
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.loading import load_app
from taktora_trio.runners.parts.app import run_app
from taktora_trio.supervision.supervisor import Runner
from taktora_trio.supervision.task import as_task
from taktora_trio.testing.backend import Peer, PeerBackend, Run

__all__ = ["GatewayKilled", "TaskBackend", "no_host"]


class GatewayKilled(Exception):
    """The test has killed the gateway."""


class TaskBackend(PeerBackend):
    """Runs a deployment in this process. `serve` runs it until the app returns or `stop` is set."""

    def __init__(self, deployment: Deployment, run: Run, peers: Mapping[str, Peer]) -> None:
        super().__init__(peers)
        self.stop = trio.Event()
        self._deployment = deployment
        self._app = None if deployment.app is None else load_app(deployment)
        self._run = run
        self._connectors = {connector.name: connector for connector in deployment.connectors}
        self._host: ConnectorHost | None = None
        self._killing: trio.CancelScope | None = None

    @abstractmethod
    def open_halves(self) -> AbstractAsyncContextManager[ConnectorHost]:
        """Run the gateway, by `killable`, and yield the host."""

    async def settle(self) -> None:
        """Wait until the journal has all that the app has published."""
        await trio.lowlevel.checkpoint()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        failure: Exception | None = None
        try:
            async with self.open_halves() as host:
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
        await self.settle()
        self._run.ended(failure)

    def killable(self, run: Callable[[int], Awaitable[None]]) -> Runner:
        """Return a runner of the gateway, which `kill_gateway` ends as an exception in it would."""

        async def run_until_killed(incarnation: int) -> None:
            with trio.CancelScope() as self._killing:
                await run(incarnation)
            if self._killing.cancelled_caught:
                raise GatewayKilled("the test has killed it")

        return as_task(run_until_killed)

    # What the test asks for

    @property
    def connectors(self) -> Mapping[str, Connector]:
        return self._connectors

    @property
    def host(self) -> ConnectorHost:
        if self._app is not None or self._host is None:
            raise no_host(self._deployment)
        return self._host

    def states(self) -> Mapping[str, ConnectorHealth]:
        assert self._host is not None
        return self._host.states()

    async def wait_for_health(self, connector: str, kinds: tuple[type[ConnectorHealth], ...]) -> ConnectorHealth:
        assert self._host is not None
        return await self._host.wait_for_health(*kinds, connector=connector)

    def kill_gateway(self) -> None:
        if self._killing is not None:
            self._killing.cancel()

    async def revive(self) -> None:
        await trio.lowlevel.checkpoint()
        assert self._host is not None
        self._host.revive_gateway()


def no_host(deployment: Deployment) -> ConfigError:
    """Make the error for a test that asks for the host of an app."""
    return ConfigError(
        f"the app of deployment {deployment.name!r} has the host: publish and expect, or test a deployment with"
        " app=None, and be the app"
    )


async def _be_the_test(host: ConnectorHost) -> None:
    """Stand for the app of a deployment that has none."""
    await trio.sleep_forever()
