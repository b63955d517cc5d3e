"""The command lines by which a supervisor starts its two halves."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from typing import TYPE_CHECKING

from taktora_trio.processes import interpreter
from taktora_trio.processes.parent.output import Stream
from taktora_trio.processes.parent.process import StartProcess, spawn
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.options import RunOptions
from taktora_trio.runners.settings import Settings
from taktora_trio.transport.domain import Domain

if TYPE_CHECKING:
    from taktora_trio.processes.parent.warm import Zygote
    from taktora_trio.runners.parts.halves import Halves

__all__ = ["halves_of", "open_warm_start"]

# What each gateway imports; the host, since most apps name it in the module of their deployment.
_EVERY_GATEWAYS = (
    "taktora_trio.__main__",
    "taktora_trio.runners.command.gateway",
    "taktora_trio.executor",
    "taktora_trio.connectors.pump",
    "taktora_trio.host.host",
)


def halves_of(
    run: RunOptions,
    domain: Domain,
    settings: Settings,
    write: Callable[[str, Stream, bytes], None],
    zygote: Zygote | None,
) -> Halves:
    """Return the halves of this run. `write` takes their output; a `zygote` forks the gateway."""
    from taktora_trio.runners.parts.halves import Halves  # the in-process shape has none

    program, environment = interpreter.program("taktora_trio"), interpreter.environment()

    def arguments(half: str, *more: str) -> list[str]:
        return [half, run.target, "--domain", domain.name, "--log", run.shared.log, *more]

    def start_gateway(connectors: Collection[str]) -> StartProcess:
        more, fds = settings.as_arguments(connectors)
        if (store := run.shared.store_folder) is not None:
            more.append(f"--store={store}")
        gateway = arguments("gateway", *more, *(f"--connector={name}" for name in connectors))
        return spawn([*program, *gateway], fds, environment) if zygote is None else zygote.start(gateway, fds)

    return Halves(spawn([*program, *arguments("plugin")], (), environment), start_gateway, write)


@contextlib.asynccontextmanager
async def open_warm_start(run: RunOptions, deployment: Deployment) -> AsyncIterator[Zygote | None]:
    """Yield the process from which the gateway is forked, with a warm start; `None` without."""
    if run.warm:
        from taktora_trio.processes.parent.warm import open_zygote  # most runs have none, and the supervisor is small

        modules = [module for connector in deployment.connectors for module in connector.preload]
        async with open_zygote("taktora_trio.__main__:main", [*_EVERY_GATEWAYS, *modules]) as zygote:
            yield zygote
    else:
        yield None
