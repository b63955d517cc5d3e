"""The split shape: a small supervisor, a plugin process and a gateway process, each under a policy of its own."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence

import attrs
import trio
from trio_util import move_on_when

from taktora_trio.deployment import Deployment
from taktora_trio.supervision.link import SupervisorLink, open_link
from taktora_trio.supervision.policy import RestartPolicy
from taktora_trio.supervision.process import ProcessExit, supervise_process
from taktora_trio.transport.domain import Domain, open_node
from taktora_trio.transport.services import open_services, specs_of
from taktora_trio.transport.sizing import check_plan, plan_memory

__all__ = ["Halves", "run_split"]

USAGE_ERROR = 2  # a half that was declared wrongly: starting it again would end the same way


@attrs.define
class Halves:
    """How to start the two halves, and which of them run now."""

    plugin_command: Sequence[str]
    gateway_command: Sequence[str]
    gateway_fds: Sequence[int] = ()
    running: dict[str, int] = attrs.field(factory=dict, init=False)
    """Name to process id, which is also the process group's."""

    def started(self, half: str, pid: int) -> None:
        self.running[half] = pid

    def ended(self, half: str) -> None:
        del self.running[half]

    def kill(self) -> None:
        """End both at once, and wait for it, for a supervisor that is itself ended by force. Blocks for a moment."""
        for pid in self.running.values():
            with contextlib.suppress(ProcessLookupError):  # nobody is left in it
                os.killpg(pid, signal.SIGKILL)
        for pid in self.running.values():
            with contextlib.suppress(ChildProcessError):  # was waited for already
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


async def run_split(deployment: Deployment, domain: Domain, stop: trio.Event, halves: Halves) -> int:
    """Run both halves until the plugin has ended for good or `stop` is set; return the exit code.

    The supervisor creates every service and holds it, so that either half can be killed at any moment. The plugin
    is stopped first, then the gateway, which has then still to publish what the plugin sent last.
    """
    check_plan(plan_memory(deployment.connectors))
    await domain.settle()
    with domain.hold("owner"), open_link() as link:
        domain.sweep()
        return await _own_domain(deployment, domain, stop, halves, link)


async def _own_domain(
    deployment: Deployment, domain: Domain, stop: trio.Event, halves: Halves, link: SupervisorLink
) -> int:
    async with open_node(domain, "supervisor") as node, open_services(node, specs_of(deployment.connectors)):
        domain.announce_ready()
        return await _supervise(deployment, stop, halves, link)


async def _supervise(deployment: Deployment, stop: trio.Event, halves: Halves, link: SupervisorLink) -> int:
    plugin_exit: ProcessExit | None = None

    async def half(name: str, command: Sequence[str], policy: RestartPolicy, fds: Sequence[int] = ()) -> ProcessExit:
        return await supervise_process(
            name,
            command,
            policy,
            pass_fds=(link.fd, *fds),
            env={**os.environ, **link.environment},
            on_start=lambda pid: halves.started(name, pid),
            on_exit=lambda exit_, decision: halves.ended(name),
            never_restart_codes=(USAGE_ERROR,),
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(half, "gateway", halves.gateway_command, deployment.gateway_policy, halves.gateway_fds)
        async with move_on_when(stop.wait):
            plugin_exit = await half("plugin", halves.plugin_command, deployment.plugin_policy)
        nursery.cancel_scope.cancel()
    if plugin_exit is None or not plugin_exit.failed:
        return 0
    return plugin_exit.returncode if plugin_exit.returncode > 0 else 1
