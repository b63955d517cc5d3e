"""The plugin process: the app and its `ConnectorHost`. It never imports a protocol stack."""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio
from trio_util import move_on_when

from taktora_trio.host.open import open_connector_host
from taktora_trio.processes.child.life_signs import LifeSigns
from taktora_trio.processes.child.supervisor_link import SupervisorLink
from taktora_trio.runners.deployment import App, Deployment
from taktora_trio.runners.loading import load_app
from taktora_trio.runners.parts.app import run_app
from taktora_trio.runners.parts.flight import open_flight_recorder
from taktora_trio.runners.parts.owning import open_domain
from taktora_trio.runners.parts.status import open_life
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from taktora_trio.transport.orphans import end_orphan
from taktora_trio.transport.pulse import open_pulse

__all__ = ["run_plugin"]

log = logging.getLogger(__name__)


async def run_plugin(
    deployment: Deployment, domain: Domain, stop: trio.Event, life: LifeSigns, link: SupervisorLink | None
) -> int:
    """Run the app until it returns or `stop` is set, and return the exit code.

    Under our supervisor (with a `link`) the domain and its services are the supervisor's; alone, they are this
    process's, and it says that it waits for a gateway if there is none.
    """
    app = load_app(deployment)
    if link is not None:
        with domain.hold("plugin"), open_pulse(domain, "plugin") as beat:
            code = await _host_app(app, deployment, domain, stop, life, link, beat)
        if link.is_gone:
            await end_orphan(domain, "gateway")
    else:
        async with open_domain(domain, deployment.connectors, "plugin", joins=True) as opened:
            if domain.holder("gateway") is None:
                waiting = "domain %s: waiting for its gateway: start `taktora-trio gateway` with the same deployment"
                log.info(waiting, domain.name, extra={"event": "waiting-for-gateway", "domain": domain.name})
            code = await _host_app(app, deployment, domain, stop, life, None, opened.beat)
    return code


async def _host_app(
    app: App,
    deployment: Deployment,
    domain: Domain,
    stop: trio.Event,
    life: LifeSigns,
    link: SupervisorLink | None,
    beat: Callable[[], None],
) -> int:
    async with (
        open_node(domain, "plugin") as node,
        open_connector_host(
            node,
            deployment.connectors,
            link=link,
            observers=deployment.observers,
            settings=deployment.app_settings,
            deployment=deployment.name,
            incarnation=1 if link is None else link.incarnation,
        ) as host,
        open_flight_recorder(deployment, domain, "plugin", host),
        open_life(life, stop, beat, "the app runs", host),
        move_on_when(stop.wait),
    ):
        code = await run_app(app, host)
        if code:
            life.exiting(code)
        return code
    return 0
