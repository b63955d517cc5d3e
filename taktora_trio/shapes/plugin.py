"""The plugin process: the app and its `ConnectorHost`. It never imports a protocol stack."""

from __future__ import annotations

import contextlib
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
    connectors = deployment.connectors
    async with contextlib.AsyncExitStack() as stack:
        if supervised:
            stack.enter_context(domain.hold("plugin"))
        else:
            check_plan(plan_memory(connectors))
            stack.enter_context(domain.hold("owner", "plugin"))
            domain.sweep()
        node = await stack.enter_async_context(open_node(domain, "plugin"))
        if not supervised:
            await stack.enter_async_context(open_services(node, specs_of(connectors)))
            domain.announce_ready()
            if domain.holder("gateway") is None:
                log.info(
                    "domain %s: waiting for its gateway: start `taktora-trio gateway` with the same deployment",
                    domain.name,
                )
        host = await stack.enter_async_context(open_connector_host(node, connectors))
        async with move_on_when(stop.wait):
            await deployment.app(host)
    return 0
