"""The in-process shape: one process, in which the host's nursery runs the app and the gateway as a supervised task.

That task may run the gateway in a thread with a loop of its own (`Deployment.gateway_thread`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import trio
from trio_util import RepeatedEvent, move_on_when

from taktora_trio.connectors.gateway import ConnectorGateway, open_connector_gateway
from taktora_trio.connectors.plan import specs_of
from taktora_trio.host.host import ConnectorHost, open_connector_host
from taktora_trio.processes.child.life_signs import LifeSigns
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.gateway_thread import run_in_thread
from taktora_trio.runners.naming import warn_of_names_that_pass
from taktora_trio.runners.revival import STARTS_AGAIN, answer
from taktora_trio.runners.status import open_life, tell_health
from taktora_trio.supervision.supervisor import Supervisor
from taktora_trio.supervision.task import as_task
from taktora_trio.transport.domain import ROLES, Domain, Node, open_node
from taktora_trio.transport.pulse import open_pulse
from taktora_trio.transport.services import open_services
from taktora_trio.transport.sizing import check_plan, plan_memory

__all__ = ["run_in_process"]


async def run_in_process(
    deployment: Deployment,
    domain: Domain,
    stop: trio.Event,
    revive: RepeatedEvent | None = None,
    life: LifeSigns | None = None,
) -> int:
    """Run both halves until the app returns or `stop` is set; then drain, and return the exit code.

    `life` tells a supervisor that it is ready, once the domain is its own, and that it lives.
    `revive` starts a gateway again that was given up, and has any other connect at once. Raises `Escalated` if the
    gateway failed too often, and its policy says so.
    """
    check_plan(plan_memory(specs_of(deployment.connectors)))
    await domain.settle()
    with contextlib.ExitStack() as stack:
        if life is None:
            life = stack.enter_context(contextlib.closing(LifeSigns(None, None)))
        stack.enter_context(domain.hold(*ROLES))
        beat = stack.enter_context(open_pulse(domain, *ROLES))
        await _run_halves(deployment, domain, stop, RepeatedEvent() if revive is None else revive, life, beat)
    return 0


async def _run_halves(
    deployment: Deployment,
    domain: Domain,
    stop: trio.Event,
    revive: RepeatedEvent,
    life: LifeSigns,
    beat: Callable[[], None],
) -> None:
    app_ended = trio.Event()
    async with (
        open_node(domain, "in-process") as node,
        open_services(node, specs_of(deployment.connectors)),
        open_connector_host(
            node, deployment.connectors, revive=lambda: gateway.revive(), observers=deployment.observers
        ) as host,
        open_life(life, stop, beat, "the app runs") as telling,
        trio.open_nursery() as nursery,
    ):
        gateway = _gateway(deployment, domain, node, host, app_ended)
        nursery.start_soon(gateway.run, name="gateway")
        nursery.start_soon(gateway.revive_at, revive)
        telling.start_soon(tell_health, life, host.states, host.health_events(), "the app runs; ")
        # The app ends while its gateway still works, so that what it sends last is still carried.
        try:
            async with move_on_when(stop.wait):
                await deployment.app(host)
        finally:
            app_ended.set()


def _gateway(deployment: Deployment, domain: Domain, node: Node, host: ConnectorHost, stop: trio.Event) -> Supervisor:
    connectors, policy, name = deployment.connectors, deployment.gateway_policy, domain.identity
    warn_of_names_that_pass(deployment)
    running: list[tuple[ConnectorGateway, trio.lowlevel.TrioToken]] = []  # none, or the one

    def connect_now(gateway: ConnectorGateway) -> None:
        answer(domain, gateway.revive())

    def revived(starts_again: bool) -> None:
        if starts_again:
            answer(domain, STARTS_AGAIN)
        for gateway, token in running:
            with contextlib.suppress(trio.RunFinishedError):  # a thread that has just ended
                token.run_sync_soon(connect_now, gateway)

    async def carry(node: Node, incarnation: int, stop: trio.Event) -> None:
        async with open_connector_gateway(
            node, connectors, incarnation=incarnation, name=name, observers=deployment.observers
        ) as gateway:
            running.append((gateway, trio.lowlevel.current_trio_token()))
            try:
                await gateway.run(stop)
            finally:
                running.clear()

    async def carry_in_thread(incarnation: int, stop: trio.Event) -> None:
        async with open_node(domain, "gateway") as node:  # one for each thread, as iceoryx2 advises
            await carry(node, incarnation, stop)

    async def run(incarnation: int) -> None:
        if deployment.gateway_thread:
            await run_in_thread(partial(carry_in_thread, incarnation), stop, policy, host.gateway_hangs)
        else:
            await carry(node, incarnation, stop)

    return Supervisor(
        "gateway",
        as_task(run),
        policy,
        stop=stop,
        on_failure=lambda failure, exit_: host.gateway_failed(failure, exit_.exception),
        on_revived=revived,
    )
