"""The gateway process: the `ConnectorGateway` and the protocol stack. It never runs the app."""

from __future__ import annotations

import logging

import trio
from trio_util import RepeatedEvent, move_on_when

from taktora_trio.deployment import Deployment
from taktora_trio.gateway import ConnectorGateway, open_connector_gateway
from taktora_trio.shapes.naming import warn_of_names_that_pass
from taktora_trio.supervision.link import ReviveGateway, SupervisorLink
from taktora_trio.supervision.notify import LifeSigns
from taktora_trio.transport.domain import Domain, open_node
from taktora_trio.transport.reserve import NoRoom

__all__ = ["run_gateway"]

log = logging.getLogger(__name__)

_WAITING = 10.0  # seconds after which a gateway that waits asks its supervisor for more time


async def run_gateway(
    deployment: Deployment,
    domain: Domain,
    stop: trio.Event,
    life: LifeSigns,
    link: SupervisorLink | None,
    revive: RepeatedEvent,
) -> int:
    """Carry messages until `stop` is set, drain, and return the exit code.

    It connects at once when `revive` is set, or the supervisor says so.
    The services are created by a supervisor or a plugin; until there is one this says that it waits.
    """
    while not stop.is_set():
        if not domain.is_ready():
            await _wait_for_plugin(domain, stop, life)
            continue
        with domain.hold("gateway"):
            if domain.is_ready():  # else its owner has left before we had our role
                try:
                    await _carry(deployment, domain, stop, life, link, revive)
                    break
                except NoRoom as exc:  # to start again would change nothing, and take one restart of the policy
                    log.error("%s", exc)
                    await life.status(str(exc), extend=3 * _WAITING)
    if link is not None and link.is_gone:
        await domain.end_orphan("plugin")
    return 0


async def _wait_for_plugin(domain: Domain, stop: trio.Event, life: LifeSigns) -> None:
    log.info("domain %s: waiting for its plugin: start `taktora-trio plugin` with the same deployment", domain.name)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ask_for_time, life)
        async with move_on_when(stop.wait):
            await domain.wait_until_ready()
        nursery.cancel_scope.cancel()


async def _ask_for_time(life: LifeSigns) -> None:
    while True:
        await life.status("waiting for its plugin", extend=3 * _WAITING)
        await trio.sleep(_WAITING)


async def _carry(
    deployment: Deployment,
    domain: Domain,
    stop: trio.Event,
    life: LifeSigns,
    link: SupervisorLink | None,
    revive: RepeatedEvent,
) -> None:
    warn_of_names_that_pass(deployment)
    async with (
        open_node(domain, "gateway") as node,
        open_connector_gateway(
            node,
            deployment.connectors,
            incarnation=link.incarnation if link else 1,
            name=domain.identity,
            observers=deployment.observers,
        ) as gateway,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_live, gateway, life)
        nursery.start_soon(life.stopping_when, stop)
        nursery.start_soon(_revive_at, revive, gateway)
        if link is not None:
            nursery.start_soon(_obey, link, gateway)
        try:
            await gateway.run(stop)
        except Exception as exc:
            gateway.report_crash(exc)
            raise
        nursery.cancel_scope.cancel()


async def _revive_at(bell: RepeatedEvent, gateway: ConnectorGateway) -> None:
    async for _ in bell.events():
        gateway.revive()


async def _obey(link: SupervisorLink, gateway: ConnectorGateway) -> None:
    async for message in link.messages():
        if isinstance(message, ReviveGateway):
            gateway.revive()


async def _live(gateway: ConnectorGateway, life: LifeSigns) -> None:
    await life.ready("carrying messages")
    await life.serve(gateway.stalled)
