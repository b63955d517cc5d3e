"""The in-process shape: one process, in which the host's nursery runs the app and the gateway as a supervised task."""

from __future__ import annotations

import trio
from trio_util import move_on_when

from taktora_trio.deployment import Deployment
from taktora_trio.errors import summary
from taktora_trio.gateway import open_connector_gateway
from taktora_trio.host import open_connector_host
from taktora_trio.supervision.policy import GiveUp, Restart
from taktora_trio.supervision.task import supervise_task
from taktora_trio.transport.domain import Domain, open_node
from taktora_trio.transport.services import open_services, specs_of
from taktora_trio.transport.sizing import check_plan, plan_memory

__all__ = ["run_in_process"]


async def run_in_process(deployment: Deployment, domain: Domain, stop: trio.Event) -> int:
    """Run both halves until the app returns or `stop` is set; then drain, and return the exit code."""
    check_plan(plan_memory(deployment.connectors))
    await domain.settle()
    with domain.hold("owner", "plugin", "gateway"):
        domain.sweep()
        await _run_halves(deployment, domain, stop)
    return 0


async def _run_halves(deployment: Deployment, domain: Domain, stop: trio.Event) -> None:
    connectors = deployment.connectors
    async with (
        open_node(domain, "in-process") as node,
        open_services(node, specs_of(connectors)),
        open_connector_host(node, connectors) as host,
        trio.open_nursery() as nursery,
    ):
        app_ended = trio.Event()

        async def gateway(incarnation: int) -> None:
            async with open_connector_gateway(node, connectors, incarnation=incarnation) as gateway:
                await gateway.run(app_ended)

        def on_crash(incarnation: int, crash: Exception | None, decision: Restart | GiveUp) -> None:
            reason = f"the gateway task crashed: {summary(crash)}" if crash else "the gateway task ended"
            if isinstance(decision, GiveUp):
                reason = f"{reason}; given up: {decision.reason}"
            host.gateway_crashed(incarnation, crash, reason)

        async def supervised() -> None:
            await supervise_task("gateway", gateway, deployment.gateway_policy, stop=app_ended, on_crash=on_crash)

        nursery.start_soon(supervised, name="gateway")
        # The app ends while its gateway still works, so that what it sends last is still carried.
        try:
            async with move_on_when(stop.wait):
                await deployment.app(host)
        finally:
            app_ended.set()
