"""The gateway process: the `ConnectorGateway` and the protocol stack. It never runs the app."""

from __future__ import annotations

import logging

import trio
from trio_util import move_on_when

from taktora_trio.deployment import Deployment
from taktora_trio.gateway import open_connector_gateway
from taktora_trio.transport.domain import Domain, open_node

__all__ = ["run_gateway"]

log = logging.getLogger(__name__)


async def run_gateway(deployment: Deployment, domain: Domain, stop: trio.Event) -> int:
    """Carry messages until `stop` is set, drain, and return the exit code.

    The services are created by a supervisor or a plugin; until there is one this says that it waits.
    """
    if not domain.is_ready():
        log.info("domain %s: waiting for its plugin: start `taktora-trio plugin` with the same deployment", domain.name)
        async with move_on_when(stop.wait):
            await domain.wait_until_ready()
        if stop.is_set():
            return 0
    with domain.hold("gateway"):
        await _carry(deployment, domain, stop)
    return 0


async def _carry(deployment: Deployment, domain: Domain, stop: trio.Event) -> None:
    async with (
        open_node(domain, "gateway") as node,
        open_connector_gateway(node, deployment.connectors) as gateway,
    ):
        try:
            await gateway.run(stop)
        except Exception as exc:
            gateway.report_crash(exc)
            raise
