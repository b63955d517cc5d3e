"""Runs a broker on loopback (amqtt, an extra), so that a newcomer needs none. For demos, not for production.

It stands for the outside world, so it runs in a process of its own, in both deployment shapes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
from collections.abc import AsyncIterator

import trio

from taktora_trio.errors import ConfigError
from taktora_trio.processes import interpreter
from taktora_trio.processes.parent import stop_process
from taktora_trio.processes.parent.child_link import open_link

__all__ = ["open_embedded_broker"]

_START_TIMEOUT, _STOP_GRACE, _TRIES = 15.0, 0.5, 3


@contextlib.asynccontextmanager
async def open_embedded_broker() -> AsyncIterator[str]:
    """Run a broker on a free port of 127.0.0.1 for as long as the block lasts, and yield its URL.

    Raises `ConfigError` if it can't be had.
    """
    if importlib.util.find_spec("amqtt") is None:
        raise ConfigError("--broker embedded needs amqtt: pip install 'taktora-trio[embedded]', or name a broker")
    with open_link() as link:
        process, port = await _start(link.fd, {**os.environ, **interpreter.environment(), **link.environment(1)})
        try:
            yield f"mqtt://127.0.0.1:{port}"
        finally:
            await stop_process("broker", process, _STOP_GRACE)


async def _start(link_fd: int, env: dict[str, str]) -> tuple[trio.Process, int]:
    for _ in range(_TRIES):  # between our look and its start another program may take the port
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        process = await trio.lowlevel.open_process(
            [*interpreter.program(__name__), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=[link_fd],
            env=env,
            process_group=0,
        )
        assert process.stdout is not None
        try:
            with trio.move_on_after(_START_TIMEOUT):
                if await process.stdout.receive_some(16) == b"ready\n":
                    return process, port
        except BaseException:
            await stop_process("broker", process, _STOP_GRACE)
            raise
        await stop_process("broker", process, _STOP_GRACE)
    raise ConfigError("the embedded broker did not start: run a broker of your own and name it with --broker")
