"""The plugin process: the app and its `ConnectorHost`. It never imports a protocol stack."""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio
from trio_util import move_on_when

from taktora_trio.connectors.plan import specs_of
from taktora_trio.host.host import open_connector_host
from taktora_trio.processes.child.life_signs import LifeSigns
from taktora_trio.processes.child.supervisor_link import SupervisorLink
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.status import open_life, tell_health
from taktora_trio.transport.domain import Domain, open_node
from taktora_trio.transport.pulse import open_pulse
from taktora_trio.transport.services import open_services
from taktora_trio.transport.sizing import check_plan, plan_memory

__all__ = ["run_plugin"]

log = logging.getLogger(__name__)


async def run_plugin(
    deployment: Deployment, domain: Domain, stop: trio.Event, life: LifeSigns, link: SupervisorLink | None
) -> int:
    """Run the app until it returns or `stop` is set, and return the exit code.

    Under our supervisor (with a `link`) the domain and its services are the supervisor's; alone, they are this
    process's, and it says that it waits for a gateway if there is none.
    """
    if link is not None:
        with domain.hold("plugin"), open_pulse(domain, "plugin") as beat:
            await _host_app(deployment, domain, stop, life, link, beat)
        if link.is_gone:
            await domain.end_orphan("gateway")
    else:
        check_plan(plan_memory(specs_of(deployment.connectors)))
        with domain.hold("owner", "plugin"), open_pulse(domain, "owner", "plugin") as beat:
            await _own_domain(deployment, domain, stop, life, beat)
    return 0


async def _own_domain(
    deployment: Deployment, domain: Domain, stop: trio.Event, life: LifeSigns, beat: Callable[[], None]
) -> None:
    async with open_node(domain, "owner") as node, open_services(node, specs_of(deployment.connectors)):
        domain.announce_ready()
        if domain.holder("gateway") is None:
            waiting = "domain %s: waiting for its gateway: start `taktora-trio gateway` with the same deployment"
            log.info(waiting, domain.name)
        await _host_app(deployment, domain, stop, life, None, beat)


async def _host_app(
    deployment: Deployment,
    domain: Domain,
    stop: trio.Event,
    life: LifeSigns,
    link: SupervisorLink | None,
    beat: Callable[[], None],
) -> None:
    async with (
        open_node(domain, "plugin") as node,
        open_connector_host(node, deployment.connectors, link=link, observers=deployment.observers) as host,
        open_life(life, stop, beat, "the app runs") as telling,
    ):
        telling.start_soon(tell_health, life, host.states, host.health_events(), "the app runs; ")
        async with move_on_when(stop.wait):
            await deployment.app(host)
