"""A gateway alone that reloads: in its process one `ConnectorGateway` takes the place of another.

Nothing is restarted here: a gateway that crashes ends the process, as it would without this, unless it is on trial.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import trio

from taktora_trio.errors import collapse
from taktora_trio.health import Failure
from taktora_trio.processes.link import ConnectorState
from taktora_trio.runners.chosen import Chosen
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.parts.control import Control
from taktora_trio.runners.parts.incarnations import Incarnations
from taktora_trio.runners.parts.reload import Reload
from taktora_trio.supervision.policy import RestartPolicy
from taktora_trio.supervision.supervisor import Exit, Supervisor
from taktora_trio.supervision.task import as_task

__all__ = ["Carry", "carry_reloading"]

Carry: TypeAlias = Callable[[Deployment, trio.Event, int, Callable[[ConnectorState], None]], Awaitable[None]]
"""Awaited as `carry(deployment, stop, incarnation, tell)`: carries messages until `stop` is set."""


async def carry_reloading(carry: Carry, stop: trio.Event, reload: Reload, control: Control | None = None) -> None:
    """Carry messages until `stop` is set, by another gateway whenever the configuration has changed.

    `control` has another one begin when an operator says so.

    Raises what a gateway raises that is not on trial.
    """
    incarnations = Incarnations(stop)

    async def run(chosen: Chosen, incarnation: int) -> None:
        async with incarnations.begin() as leave:
            await carry(chosen.deployment, leave, incarnation, incarnations.arrival.said)

    def raise_unless_on_trial(_: Failure, exit_: Exit) -> None:
        if exit_.exception is not None and not gateway.is_on_trial:
            raise exit_.exception

    policy = RestartPolicy(restart="never", stop_grace=reload.present.deployment.gateway_policy.stop_grace)
    gateway = Supervisor(
        "gateway",
        as_task(partial(run, reload.present)),
        policy,
        stop=stop,
        on_failure=raise_unless_on_trial,
        ask_to_leave=incarnations.leave,
        revivable=False,
    )
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reload.serve, gateway, lambda chosen: as_task(partial(run, chosen)), incarnations.watch)
            if control is not None:
                nursery.start_soon(control.serve, gateway, incarnations.watch)
            await gateway.run()
            nursery.cancel_scope.cancel()
    except Exception as exc:  # noqa: BLE001 - whoever calls knows some by their class
        raise collapse(exc) from None
