#!/usr/bin/env python
"""The in-process shape: one program, one signal handler, one log stream.

    +-------------------------------- one process --------------------------------+
    |                                                                             |
    |   app  <-->  ConnectorHost  <-->  shared memory  <-->  gateway task         | <--> broker
    |                                                        (restarted by policy)|
    +-----------------------------------------------------------------------------+

    python supervisors/in_process.py examples.echo:deployment --broker URL

`taktora-trio run --mode in-process` runs this very file, which is `taktora_trio/runners/scripts/in_process.py`. A copy
of it is a runner of your own, with the same options.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio
from trio_util import RepeatedEvent, move_on_when

from taktora_trio import (
    ConnectorHost,
    Control,
    Deployment,
    Domain,
    GatewayTask,
    LifeSigns,
    Reload,
    Supervisor,
    as_task,
    load_app,
    open_domain,
    open_flight_recorder,
    open_life,
    open_outlasting,
    open_watching_host,
    run_app,
)

__all__ = ["open_in_process", "run_in_process"]


async def run_in_process(
    deployment: Deployment,
    domain: Domain,
    stop: trio.Event,
    revive: RepeatedEvent | None = None,
    life: LifeSigns | None = None,
    reload: Reload | None = None,
    control: Control | None = None,
) -> int:
    """Run both halves until the app returns or `stop` is set; return the exit code.

    Raises what the app raises, and `Escalated` if the gateway failed too often, and its policy says so.
    """
    app = load_app(deployment)
    async with (
        open_in_process(deployment, domain, stop, revive, life, reload, control) as host,
        move_on_when(stop.wait),
    ):
        return await run_app(app, host)
    return 0


@contextlib.asynccontextmanager
async def open_in_process(
    deployment: Deployment,
    domain: Domain,
    stop: trio.Event,
    revive: RepeatedEvent | None = None,
    life: LifeSigns | None = None,
    reload: Reload | None = None,
    control: Control | None = None,
) -> AsyncIterator[ConnectorHost]:
    """Run the gateway, and yield the host, for as long as the block lasts: the shape itself.

    `revive` starts a gateway again that was given up, and has any other connect at once. `life` tells a supervisor of
    this process that it is ready, once the domain is its own, and that it lives. `reload` replaces the gateway when the
    configuration has changed. `control` stops, starts and restarts it when an operator says so.
    """
    connectors, policy = deployment.connectors, deployment.gateway_policy
    async with (
        open_domain(domain, connectors, "plugin", "gateway") as opened,
        open_watching_host(
            opened.node,
            connectors,
            revive=lambda: gateway.revive(),
            observers=deployment.observers,
            settings=deployment.app_settings,
            deployment=deployment.name,
        ) as (host, gateways),
        open_life(life, stop, opened.beat, "the app runs", host),
    ):
        task = GatewayTask(deployment, opened, on_hang=gateways.hangs)
        gateway = Supervisor(
            "gateway",
            as_task(task.run),
            policy,
            stop=task.stop,
            on_failure=lambda failure, exit_: gateways.failed(failure, exit_.exception),
            on_revived=task.revived,
            ask_to_leave=task.leave,
        )
        # The app ends first, while its gateway still works; then the gateway publishes what is queued.
        async with open_outlasting(gateway.run, lambda scope: task.stop.set(), policy.stop_grace) as nursery:
            if revive is not None:
                nursery.start_soon(gateway.revive_at, revive)
            if reload is not None:
                nursery.start_soon(reload.serve, gateway, task.runner, task.watch)
            if control is not None:
                nursery.start_soon(control.serve, gateway, task.watch)
            async with open_flight_recorder(deployment, domain, "plugin", host):
                yield host


if __name__ == "__main__":
    from taktora_trio import main

    main("run", "--mode", "in-process", shape=run_in_process)
