"""The gateway process: the `ConnectorGateway` and the protocol stack. It never runs the app."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import trio
from trio_util import RepeatedEvent, move_on_when

from taktora_trio.connectors.gateway import ConnectorGateway, open_connector_gateway
from taktora_trio.processes.child.life_signs import LifeSigns
from taktora_trio.processes.child.supervisor_link import SupervisorLink
from taktora_trio.processes.link import ConnectorState, ReviveGateway
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.parts.arrival import tell_until_up
from taktora_trio.runners.parts.flight import open_flight_recorder
from taktora_trio.runners.parts.naming import warn_of_temporary_names
from taktora_trio.runners.parts.revival import answer
from taktora_trio.runners.parts.status import tell_health
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node
from taktora_trio.transport.orphans import end_orphan
from taktora_trio.transport.pulse import open_pulse
from taktora_trio.transport.segments import SharedMemoryFull

if TYPE_CHECKING:  # one under a supervisor of ours has none
    from taktora_trio.runners.parts.control import Control
    from taktora_trio.runners.parts.reload import Reload

__all__ = ["run_gateway"]

log = logging.getLogger(__name__)

_WAITING = 10.0  # seconds for which a start may go on waiting for memory


async def run_gateway(
    deployment: Deployment,
    domain: Domain,
    stop: trio.Event,
    life: LifeSigns,
    link: SupervisorLink | None,
    revive: RepeatedEvent,
    *,
    shares: bool = False,
    reload: Reload | None = None,
    control: Control | None = None,
) -> int:
    """Carry messages until `stop` is set, drain, and return the exit code.

    With `shares`, other connectors of the domain may have a gateway of their own. It connects at once when `revive` is
    set, or when the supervisor says so. Without a supervisor of ours, `reload` has it begin anew when the configuration
    has changed, and `control` does what an operator says.

    A supervisor or a plugin creates the services. Until there is one, this process says that it waits, and that it is
    ready: so it does not hold up whoever waits for it to start, and the plugin may be started after it.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life.stopping_when, stop)
        work = _Work(life, nursery)
        while not stop.is_set():
            if not domain.is_ready():
                await _wait_for_plugin(domain, stop, work)
                continue
            with domain.hold("gateway", shared=shares):
                if domain.is_ready():  # else its owner has left before we had our role
                    try:
                        with open_pulse(domain, "gateway") as beat:
                            half = f"gateway:{deployment.connectors[0].name}" if shares else "gateway"
                            carry = partial(_carry, domain, work, link, revive, beat, half)
                            if link is not None:
                                await carry(deployment, stop, link.incarnation, link.send)
                            elif reload is not None:
                                from taktora_trio.runners.command.reloading import carry_reloading  # for it alone

                                await carry_reloading(carry, stop, reload, control)
                            else:
                                await carry(deployment, stop, 1, lambda state: None)
                        break
                    except SharedMemoryFull as exc:  # another process would find no more, and cost one restart
                        log.error("%s", exc, extra={"event": "memory-full"})
                        await life.status(str(exc), extend=3 * _WAITING)
        nursery.cancel_scope.cancel()
    if link is not None and link.is_gone:
        await end_orphan(domain, "plugin")
    return 0


class _Work:
    """The present work of the process. As long as it moves, signs of life are given."""

    def __init__(self, life: LifeSigns, nursery: trio.Nursery) -> None:
        self.life = life
        self._nursery = nursery
        self._gateway: ConnectorGateway | None = None
        self._beat: Callable[[], None] | None = None
        self._is_ready = False

    async def ready(self, status: str) -> None:
        """Say that the process is ready. From the first time on it gives signs of life."""
        if self._is_ready:
            await self.life.status(status)
        else:
            await self.life.ready(status)
            self._is_ready = True
            self._nursery.start_soon(self.life.serve, self._stalled, self._show)

    @contextlib.contextmanager
    def of(self, gateway: ConnectorGateway, beat: Callable[[], None]) -> Iterator[None]:
        self._gateway, self._beat = gateway, beat
        try:
            yield
        finally:
            self._gateway = self._beat = None

    def _stalled(self) -> str | None:
        return self._gateway.stalled() if self._gateway is not None else None

    def _show(self) -> None:
        if self._beat is not None:
            self._beat()


async def _wait_for_plugin(domain: Domain, stop: trio.Event, work: _Work) -> None:
    log.info(
        "domain %s: waiting for its plugin: start `taktora-trio plugin` with the same deployment",
        domain.name,
        extra={"event": "waiting-for-plugin", "domain": domain.name},
    )
    await work.ready("waiting for its plugin")
    async with move_on_when(stop.wait):
        await domain.wait_until_ready()


async def _carry(
    domain: Domain,
    work: _Work,
    link: SupervisorLink | None,
    revive: RepeatedEvent,
    beat: Callable[[], None],
    half: str,
    deployment: Deployment,
    stop: trio.Event,
    incarnation: int,
    tell: Callable[[ConnectorState], None],
) -> None:
    warn_of_temporary_names(deployment)
    async with (
        open_flight_recorder(deployment, domain, half),
        open_node(domain, "gateway") as node,
        open_connector_gateway(
            node,
            deployment.connectors,
            incarnation=incarnation,
            name=domain.identity,
            observers=deployment.observers,
            folder=partial(deployment.folder, domain.name),
            stores=deployment.stores(domain.name),
            inbound_stores=deployment.inbound_stores(domain.name),
            deployment=deployment.name,
            half=half,
        ) as gateway,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_tell, work, gateway)
        nursery.start_soon(tell_until_up, gateway.health, tell)
        nursery.start_soon(_revive_at, revive, gateway, domain)
        if link is not None:
            nursery.start_soon(_obey, link, gateway, domain)
        with work.of(gateway, beat):
            try:
                await gateway.run(stop)
            except Exception as exc:
                gateway.report_crash(exc)
                raise
        nursery.cancel_scope.cancel()


async def _revive_at(bell: RepeatedEvent, gateway: ConnectorGateway, domain: Domain) -> None:
    async for _ in bell.events():
        answer(domain, gateway.revive())


async def _obey(link: SupervisorLink, gateway: ConnectorGateway, domain: Domain) -> None:
    async for message in link.messages():
        if isinstance(message, ReviveGateway):
            answer(domain, gateway.revive())


async def _tell(work: _Work, gateway: ConnectorGateway) -> None:
    await work.ready("connecting")
    await tell_health(work.life, gateway.health.states, gateway.health.events())
