"""The plugin process: the app and its `ConnectorHost`. It never imports a protocol stack."""

from __future__ import annotations

import logging

import trio
from trio_util import move_on_when

from taktora_trio.deployment import Deployment
from taktora_trio.host import open_connector_host
from taktora_trio.transport.domain import Domain, open_node
from taktora_trio.transport.services import open_services, specs_of
from taktora_trio.transport.sizing import check_plan, plan_memory

__all__ = ["run_plugin"]

log = logging.getLogger(__name__)


async def run_plugin(deployment: Deployment, domain: Domain, stop: trio.Event, *, supervised: bool) -> int:
    """Run the app until it returns or `stop` is set, and return the exit code.

    Under our supervisor the domain and its services are the supervisor's; alone, they are this process's, and it
    says that it waits for a gateway if there is none.
    """
    if supervised:
        with domain.hold("plugin"):
            await _host_app(deployment, domain, stop)
    else:
        check_plan(plan_memory(deployment.connectors))
        with domain.hold("owner", "plugin"):
            domain.sweep()
            await _own_domain(deployment, domain, stop)
    return 0


async def _own_domain(deployment: Deployment, domain: Domain, stop: trio.Event) -> None:
    async with open_node(domain, "owner") as node, open_services(node, specs_of(deployment.connectors)):
        domain.announce_ready()
        if domain.holder("gateway") is None:
            waiting = "domain %s: waiting for its gateway: start `taktora-trio gateway` with the same deployment"
            log.info(waiting, domain.name)
        await _host_app(deployment, domain, stop)


async def _host_app(deployment: Deployment, domain: Domain, stop: trio.Event) -> None:
    async with (
        open_node(domain, "plugin") as node,
        open_connector_host(node, deployment.connectors) as host,
        move_on_when(stop.wait),
    ):
        await deployment.app(host)
