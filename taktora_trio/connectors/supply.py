"""A peer of the run's own, for trying things out: a program on a free port of loopback, which ends with the run.

It stands for the outside world, so it runs in a process of its own, in both shapes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import AsyncIterator

import trio

from taktora_trio.errors import ConfigError
from taktora_trio.processes import interpreter
from taktora_trio.processes.parent import stop_process
from taktora_trio.processes.parent.child_link import open_link

__all__ = ["READY", "open_supply_process"]

READY = b"ready\n"
"""What the program writes to its standard output when it listens."""
_START_TIMEOUT, _STOP_GRACE, _TRIES = 15.0, 0.5, 3


@contextlib.asynccontextmanager
async def open_supply_process(module: str, what: str, instead: str) -> AsyncIterator[int]:
    """Run `python -m MODULE PORT` for as long as the block lasts, and yield the port, where it listens.

    It inherits a link (`inherited_link`), whose end says that the run has ended. Raises `ConfigError` if it can't be
    had: the text names it as `what`, and says what to do `instead`.
    """
    with open_link() as link:
        environment = {**os.environ, **interpreter.environment(), **link.environment(1)}
        for _ in range(_TRIES):  # between our look and its start another program may take the port
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port: int = probe.getsockname()[1]
            process = await trio.lowlevel.open_process(
                [*interpreter.program(module), str(port)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                pass_fds=[link.fd],
                env=environment,
                process_group=0,
            )
            try:
                if await _is_ready(process):
                    yield port
                    return
            finally:
                await stop_process(what, process, _STOP_GRACE)
    raise ConfigError(f"the embedded {what} did not start: {instead}")


async def _is_ready(process: trio.Process) -> bool:
    assert process.stdout is not None
    said = b""
    with trio.move_on_after(_START_TIMEOUT):
        while said != READY and (data := await process.stdout.receive_some(len(READY) - len(said))):
            said += data
    return said == READY
