#!/usr/bin/env python
"""The split shape: the app and the protocol stack in processes of their own, under a small supervisor.

    +------------------------------ supervisor -------------------------------+
    |   owns the domain, creates every service, restarts each half by policy  |
    +-------------------------------------------------------------------------+
           |                                                  |
    +-- plugin process ---------+                      +-- gateway process ---------+
    |  app  <-->  ConnectorHost | <-- shared memory --> |  ConnectorGateway, stack  | <--> broker
    +---------------------------+                      +----------------------------+

    python supervisors/split.py examples.echo:deployment --broker URL

`taktora-trio run --mode split` runs this very file, which is `taktora_trio/runners/scripts/split.py`. A copy
of it is a runner of your own, with the same options.
"""

from __future__ import annotations

from functools import partial

import trio
from trio_util import RepeatedEvent, move_on_when

from taktora_trio import (
    Control,
    Deployment,
    Domain,
    Escalated,
    Exit,
    Halves,
    LifeSigns,
    Relay,
    Reload,
    StatusLine,
    Supervisor,
    open_domain,
    open_flight_recorder,
    open_life,
)

__all__ = ["run_split"]


async def run_split(
    deployment: Deployment,
    domain: Domain,
    stop: trio.Event,
    halves: Halves,
    revive: RepeatedEvent | None = None,
    life: LifeSigns | None = None,
    reload: Reload | None = None,
    control: Control | None = None,
) -> int:
    """Run both halves until the plugin has ended for good or `stop` is set; return the exit code.

    `revive` starts a gateway again that was given up, and has any other connect at once. `life` tells a supervisor of
    this process that it is ready, once the domain is its own, and that it lives. `reload` replaces the gateway when the
    configuration has changed. `control` stops, starts and restarts a half when an operator says so.
    Raises `Escalated` if the gateway failed too often, and its policy says so.
    """
    async with (
        open_domain(domain, deployment.connectors) as opened,
        open_flight_recorder(deployment, domain, "supervisor") as flight,
        open_life(life, stop, opened.beat, "both halves are supervised") as telling,
        trio.open_nursery() as nursery,
    ):
        relay, status = Relay(domain, nursery), StatusLine()
        about_gateway = relay.gateway(lambda: gateway.revive(), ended=lambda exit_: gateway.ended(exit_))
        gateway = Supervisor(
            "gateway",
            halves.gateway(deployment.gateway_policy, about_gateway),
            deployment.gateway_policy,
            on_failure=about_gateway.failed,
            on_revived=about_gateway.revived,
        )
        if reload is not None:
            again = partial(halves.gateway, deployment.gateway_policy, about_gateway, "gateway")
            nursery.start_soon(reload.serve, gateway, again, about_gateway.watch)
        plugin = Supervisor(
            "plugin",
            halves.plugin(deployment.plugin_policy, relay, status),
            deployment.plugin_policy,
            on_failure=flight.plugin_failed,
            revivable=False,  # without its app there is nothing left to run
        )
        if control is not None:
            nursery.start_soon(control.serve, gateway, about_gateway.watch, plugin, relay.set_level)
        nursery.start_soon(halves.serve)
        nursery.start_soon(gateway.run)
        if revive is not None:
            nursery.start_soon(gateway.revive_at, revive)
        if life is not None:
            telling.start_soon(status.tell, life)
        plugin_exit = None
        async with move_on_when(stop.wait):
            plugin_exit = await _until_it_ends_for_good(plugin)
        # The plugin has stopped first, while its gateway worked; the gateway still publishes what is queued.
        nursery.cancel_scope.cancel()
    return _exit_code(plugin_exit)


async def _until_it_ends_for_good(plugin: Supervisor) -> Exit | None:
    try:
        return await plugin.run()
    except Escalated:
        return plugin.last_exit


def _exit_code(plugin_exit: Exit | None) -> int:
    if plugin_exit is None or not (plugin_exit.failed or plugin_exit.returncode):
        return 0
    return plugin_exit.returncode if plugin_exit.returncode and plugin_exit.returncode > 0 else 1


if __name__ == "__main__":
    from taktora_trio import main

    main("run", "--mode", "split", shape=run_split)
