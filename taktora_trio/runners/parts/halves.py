"""The child processes of a supervisor: each half, started, relayed and watched; none is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
from collections.abc import Callable, Collection

import attrs

from taktora_trio.processes.parent.child_link import ChildLink
from taktora_trio.processes.parent.group import Child
from taktora_trio.processes.parent.memory_controller import out_of_memory_kills
from taktora_trio.processes.parent.output import Stream
from taktora_trio.processes.parent.process import Start, StartProcess, as_process
from taktora_trio.processes.parent.subreaper import Reaper, become_subreaper
from taktora_trio.processes.parent.tags import without_controls
from taktora_trio.runners.chosen import Chosen
from taktora_trio.runners.parts.relay import GatewayRelay, Relay
from taktora_trio.runners.parts.status import StatusLine
from taktora_trio.runners.this_process.limits import give_back
from taktora_trio.supervision.policy import RestartPolicy
from taktora_trio.supervision.supervisor import Runner

__all__ = ["Halves"]

USAGE_ERROR = 2  # a plugin that was declared wrongly: starting it again would end the same way


def _subreaper() -> Reaper:
    become_subreaper()
    return Reaper()


@attrs.define
class Halves:
    """The two halves as child processes: starts them, passes their output on, and knows which run now.

    A process below one of them that loses its parent becomes a child of this process, which waits for its end.
    """

    start_plugin: StartProcess
    start_gateway: Callable[[Collection[str], Chosen | None], StartProcess]
    """Called with the names of the gateway's connectors, where none stands for all, and with a configuration other than
    the first one."""
    write: Callable[[str, Stream, bytes], None]
    """Called with the half's name, the stream, and a line without its end."""
    count_kills: Callable[[], int] = out_of_memory_kills
    """Counts the processes that the kernel has killed for want of memory, of which a gateway may be one."""
    release: Callable[[], None] = lambda: None
    """Called when they were ended by force: lets go of what was made for them."""
    _reaper: Reaper = attrs.field(factory=_subreaper, init=False)
    _running: dict[str, int] = attrs.field(factory=dict, init=False)  # name to process id, which is also its group's

    def plugin(self, policy: RestartPolicy, relay: Relay, status: StatusLine) -> Runner:
        """Return a runner of the plugin's process. It learns from the relay how its gateways fare."""

        def started(incarnation: int, pid: int, link: ChildLink) -> None:
            status.say("the plugin starts")
            relay.plugin_started(link)

        def ended() -> None:
            self._ended("plugin")
            relay.plugin_ended()
            status.say("the plugin has ended")

        return as_process(
            "plugin",
            self._known("plugin", self.start_plugin),
            policy,
            write=lambda stream, line: self.write("plugin", stream, line),
            on_start=started,
            on_end=ended,
            on_status=status.say,  # it knows how its gateway fares, too
            permanent_codes=(USAGE_ERROR,),
        )

    def gateway(
        self, policy: RestartPolicy, relay: GatewayRelay, name: str = "gateway", chosen: Chosen | None = None
    ) -> Runner:
        """Return a runner of a gateway's process. What is not printable in its output is escaped.

        `chosen` is a configuration that was read after the first one, for a reload.
        """

        def ended() -> None:
            self._ended(name)
            relay.ended()

        return as_process(
            name,
            self._known(name, self.start_gateway(relay.connectors, chosen)),
            policy,
            write=lambda stream, line: self.write("gateway", stream, without_controls(line)),
            on_start=relay.started,
            on_end=ended,
            on_exit=relay.exited,
            starts_last=True,  # what is to be on time is the app
            count_kills=self.count_kills,
        )

    def beside(self, name: str, start: StartProcess, policy: RestartPolicy) -> Runner:
        """Return a runner of another process of the run, which is no half."""
        return as_process(
            name,
            self._known(name, start),
            policy,
            write=lambda stream, line: self.write(name, stream, without_controls(line)),
            on_end=lambda: self._ended(name),
            permanent_codes=(USAGE_ERROR,),
        )

    async def serve(self) -> None:
        """Serve: wait for the end of each such orphan. Needs the main thread, for it handles SIGCHLD."""
        _give_back_memory()
        await self._reaper.serve()

    def kill(self) -> None:
        """End all at once, and wait for it, for a supervisor that is itself ended by force. Blocks for a moment."""
        for pid in self._running.values():
            with contextlib.suppress(ProcessLookupError):  # nobody is left in it
                os.killpg(pid, signal.SIGKILL)
        for pid in self._running.values():
            with contextlib.suppress(ChildProcessError):  # was waited for already
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self.release()

    def _known(self, name: str, start: StartProcess) -> StartProcess:
        async def start_known(given: Start) -> Child:
            with self._reaper.starting():
                child = await start(given)
                self._reaper.started(child.pid)
            self._running[name] = child.pid
            give_back(child.pid)  # what the app starts is to inherit what we did, and not what we have made of it
            return child

        return start_known

    def _ended(self, name: str) -> None:
        self._reaper.ended(self._running.pop(name))


def _give_back_memory() -> None:
    """Free what only the start has needed (malloc_trim(3)): from now on a supervisor does little, for a long time."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # not the GNU C library
        ctypes.CDLL(None).malloc_trim(0)
