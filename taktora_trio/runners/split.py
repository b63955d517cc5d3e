"""The split shape: a small supervisor, a plugin process and a gateway process, each under a policy of its own."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
from collections.abc import Callable

import attrs
import trio
from trio_util import RepeatedEvent, move_on_when

from taktora_trio.connectors.plan import specs_of
from taktora_trio.errors import Escalated
from taktora_trio.health import Failure
from taktora_trio.processes.child.life_signs import LifeSigns
from taktora_trio.processes.link import GatewayFailed, GatewayStarted, ReviveGateway
from taktora_trio.processes.parent.child_link import ChildLink
from taktora_trio.processes.parent.descendants import Reaper, become_subreaper
from taktora_trio.processes.parent.group import Child
from taktora_trio.processes.parent.output import Stream
from taktora_trio.processes.parent.process import Start, StartProcess, as_process
from taktora_trio.processes.parent.tags import without_controls
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.limits import give_back
from taktora_trio.runners.revival import STARTS_AGAIN, answer
from taktora_trio.runners.status import StatusLine, open_life
from taktora_trio.supervision.supervisor import Exit, Supervisor
from taktora_trio.transport.domain import Domain, open_node
from taktora_trio.transport.pulse import open_pulse
from taktora_trio.transport.services import open_services
from taktora_trio.transport.sizing import check_plan, plan_memory

__all__ = ["Halves", "run_split"]

USAGE_ERROR = 2  # a plugin that was declared wrongly: starting it again would end the same way


@attrs.define
class Halves:
    """How to start the two halves, where their output goes, and which of them run now."""

    start_plugin: StartProcess
    start_gateway: StartProcess
    write: Callable[[str, Stream, bytes], None]
    """Called with the half's name, the stream, and a line without its end."""
    running: dict[str, int] = attrs.field(factory=dict, init=False)
    """Name to process id, which is also the process group's."""

    def kill(self) -> None:
        """End both at once, and wait for it, for a supervisor that is itself ended by force. Blocks for a moment."""
        for pid in self.running.values():
            with contextlib.suppress(ProcessLookupError):  # nobody is left in it
                os.killpg(pid, signal.SIGKILL)
        for pid in self.running.values():
            with contextlib.suppress(ChildProcessError):  # was waited for already
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


async def run_split(
    deployment: Deployment, domain: Domain, stop: trio.Event, halves: Halves, revive: RepeatedEvent, life: LifeSigns
) -> int:
    """Run both halves until the plugin has ended for good or `stop` is set; return the exit code.

    `life` tells a supervisor of ours that we are ready, once the domain is our own, and that we live.
    The supervisor creates every service and holds it, so that either half can be killed at any moment. The plugin
    is stopped first, then the gateway, which has then still to publish what the plugin sent last. `revive` starts a
    gateway again that was given up, and has any other connect at once. Raises `Escalated` if the gateway failed too
    often, and its policy says so.
    """
    check_plan(plan_memory(specs_of(deployment.connectors)))
    await domain.settle()
    become_subreaper()
    with domain.hold("owner"), open_pulse(domain, "owner") as beat:
        return await _own_domain(deployment, domain, stop, halves, revive, life, beat)


async def _own_domain(
    deployment: Deployment,
    domain: Domain,
    stop: trio.Event,
    halves: Halves,
    revive: RepeatedEvent,
    life: LifeSigns,
    beat: Callable[[], None],
) -> int:
    async with open_node(domain, "supervisor") as node, open_services(node, specs_of(deployment.connectors)):
        domain.announce_ready()
        _give_back_memory()
        async with (
            open_life(life, stop, beat, "both halves are supervised") as telling,
            trio.open_nursery() as nursery,
        ):
            status = StatusLine()
            telling.start_soon(status.tell, life)
            supervision = _Supervision(deployment, domain, halves, nursery, status)
            nursery.start_soon(supervision.reaper.serve)
            nursery.start_soon(supervision.gateway.revive_at, revive)
            code = await supervision.run(stop)
    return code


def _give_back_memory() -> None:
    """What only the start has needed (malloc_trim(3)): from now on this process does little, for a long time."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # not the GNU C library
        ctypes.CDLL(None).malloc_trim(0)


class _Supervision:
    """Both supervisors, and what the one half is told of the other."""

    def __init__(
        self, deployment: Deployment, domain: Domain, halves: Halves, nursery: trio.Nursery, status: StatusLine
    ) -> None:
        self._domain = domain
        self._halves = halves
        self._status = status
        self._nursery = nursery
        self._to_plugin: ChildLink | None = None
        self._to_gateway: ChildLink | None = None
        self._news: GatewayStarted | GatewayFailed | None = None
        self._gateway_pid = 0
        self.reaper = Reaper()
        self.gateway = Supervisor(
            "gateway",
            as_process(
                "gateway",
                self._known(halves.start_gateway),
                deployment.gateway_policy,
                write=lambda stream, line: halves.write("gateway", stream, without_controls(line)),
                on_start=self._gateway_started,
                on_end=lambda: self._ended("gateway"),
            ),
            deployment.gateway_policy,
            on_failure=self._gateway_failed,
            on_revived=self._gateway_revived,
        )
        self.plugin = Supervisor(
            "plugin",
            as_process(
                "plugin",
                self._known(halves.start_plugin),
                deployment.plugin_policy,
                write=lambda stream, line: halves.write("plugin", stream, line),
                on_start=self._plugin_started,
                on_end=lambda: self._ended("plugin"),
                on_status=status.say,  # it knows how its gateway fares, too
                permanent_codes=(USAGE_ERROR,),
            ),
            deployment.plugin_policy,
            revivable=False,  # without its app there is nothing left to run
        )

    async def run(self, stop: trio.Event) -> int:
        plugin_exit: Exit | None = None
        self._nursery.start_soon(self.gateway.run)
        async with move_on_when(stop.wait):
            plugin_exit = await self._run_plugin()
        self._nursery.cancel_scope.cancel()
        if plugin_exit is None or not plugin_exit.failed:
            return 0
        return plugin_exit.returncode if plugin_exit.returncode and plugin_exit.returncode > 0 else 1

    async def _run_plugin(self) -> Exit | None:
        try:
            return await self.plugin.run()
        except Escalated:
            return self.plugin.last_exit

    def _known(self, start: StartProcess) -> StartProcess:
        """The same start, of which the reaper knows."""

        async def start_known(given: Start) -> Child:
            with self.reaper.starting():
                child = await start(given)
                self.reaper.started(child.pid)
            give_back(child.pid)  # what the app starts is to inherit what we did, and not what we have made of it
            return child

        return start_known

    def _gateway_started(self, incarnation: int, pid: int, link: ChildLink) -> None:
        self._halves.running["gateway"] = self._gateway_pid = pid
        self._to_gateway = link
        self._tell(GatewayStarted(incarnation, pid))

    def _gateway_failed(self, failure: Failure, exit_: Exit) -> None:
        self._tell(GatewayFailed(self._gateway_pid, failure))

    def _gateway_revived(self, starts_again: bool) -> None:
        if starts_again:
            answer(self._domain, STARTS_AGAIN)
        elif self._to_gateway is not None:
            self._to_gateway.send(ReviveGateway())  # and it answers
        else:
            answer(self._domain, "the gateway has ended, and starts again by its policy")

    def _tell(self, news: GatewayStarted | GatewayFailed) -> None:
        self._news = news
        if self._to_plugin is not None:
            self._to_plugin.send(news)

    def _plugin_started(self, incarnation: int, pid: int, link: ChildLink) -> None:
        self._halves.running["plugin"] = pid
        self._status.say("the plugin starts")
        self._to_plugin = link
        if self._news is not None:
            link.send(self._news)
        self._nursery.start_soon(self._hear_plugin, link)

    async def _hear_plugin(self, link: ChildLink) -> None:
        async for message in link.messages():
            if isinstance(message, ReviveGateway):
                self.gateway.revive()

    def _ended(self, half: str) -> None:
        self.reaper.ended(self._halves.running.pop(half))
        if half == "plugin":
            self._to_plugin = None
            self._status.say("the plugin has ended")
        else:
            self._to_gateway = None
