"""The command lines by which a supervisor starts its two halves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from typing import TYPE_CHECKING

import attrs

from taktora_trio.processes import interpreter
from taktora_trio.processes.parent.group import Child
from taktora_trio.processes.parent.output import Stream
from taktora_trio.processes.parent.process import Start, StartProcess, spawn
from taktora_trio.runners.chosen import Chosen
from taktora_trio.runners.configuration.reading import Configuration
from taktora_trio.runners.configuration.settings import Settings
from taktora_trio.runners.deployment import Deployment

if TYPE_CHECKING:
    from taktora_trio.processes.parent.memory_group import MemoryGroup
    from taktora_trio.processes.parent.warm import Zygote
    from taktora_trio.runners.parts.halves import Halves

__all__ = ["open_halves", "open_warm_start"]

# What each gateway imports; the host, since most apps name it in the module of their deployment.
_EVERY_GATEWAYS = (
    "taktora_trio.__main__",
    "taktora_trio.runners.command.gateway",
    "taktora_trio.runners.command.typed",
    "taktora_trio.runners.parts.plugin_first",
    "taktora_trio.runners.this_process.flight_log",
    "taktora_trio.vitals.serving",
    "taktora_trio.executor",
    "taktora_trio.connectors.figures",
    "taktora_trio.connectors.pump",
    "taktora_trio.host.host",
)


@contextlib.asynccontextmanager
async def open_halves(
    target: str,
    configuration: Configuration,
    settings: Settings,
    write: Callable[[str, Stream, bytes], None],
    zygote: Zygote | None,
) -> AsyncIterator[Halves]:
    """Yield the halves of a run. `write` takes their output; a `zygote` forks the gateway.

    The gateway gets the settings of connectors, or those of the configuration that it is started with; the plugin gets
    those of the app.
    """
    from taktora_trio.runners.parts.halves import Halves  # the in-process shape has none

    program, environment = interpreter.program("taktora_trio"), interpreter.environment()
    fences = configuration.fences

    def start_gateway(connectors: Collection[str], chosen: Chosen | None) -> StartProcess:
        now = settings if chosen is None else chosen.settings
        only = [f"--connector={name}" for name in connectors]

        async def start(given: Start) -> Child:
            more, fds = now.as_arguments(connectors)
            has_group = group is not None and group.open()
            fence = attrs.evolve(fences.gateway, memory=None) if has_group else fences.gateway
            try:
                gateway = [
                    "gateway",
                    target,
                    *configuration.arguments(),
                    *more,
                    *configuration.store_arguments(),
                    *fence.options("gateway"),
                    *only,
                ]
                begin = spawn([*program, *gateway], fds, environment) if zygote is None else zygote.start(gateway, fds)
                child = await begin(given)
                if group is not None:
                    group.add(child.pid)
                return child
            finally:
                for fd in fds:  # what was started has them
                    os.close(fd)

        return start

    with _memory_group(configuration) as group, configuration.app_arguments() as (more, fds):
        plugin = [*program, "plugin", target, *configuration.arguments(), *fences.plugin.options("plugin"), *more]
        halves = Halves(spawn(plugin, fds, environment), start_gateway, write)
        if group is not None:
            halves.count_kills, halves.release = group.kills, group.close
        yield halves


@contextlib.contextmanager
def _memory_group(configuration: Configuration) -> Iterator[MemoryGroup | None]:
    """Yield the control group that gateways are to be in; `None` where their memory has no limit."""
    limit = configuration.fences.gateway.memory
    if limit is None:
        yield None
        return
    from taktora_trio.processes.parent.memory_group import MemoryGroup  # most runs have none

    with contextlib.closing(MemoryGroup(f"taktora-{configuration.domain}-gateway", limit)) as group:
        yield group


@contextlib.asynccontextmanager
async def open_warm_start(configuration: Configuration, deployment: Deployment) -> AsyncIterator[Zygote | None]:
    """Yield the process from which the gateway is forked, with a warm start; `None` without."""
    if configuration.warm:
        from taktora_trio.processes.parent.warm import open_zygote  # most runs have none, and the supervisor is small

        modules = [module for connector in deployment.connectors for module in connector.preload]
        async with open_zygote("taktora_trio.__main__:main", [*_EVERY_GATEWAYS, *modules]) as zygote:
            yield zygote
    else:
        yield None
