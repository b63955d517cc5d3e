"""The process that serves an endpoint, beside a run: started with it, started again if it fails, ended with it.

It is a process of its own so that nothing that the app or a protocol does can keep it from answering. Its socket is the
run's: an address that can't be had is bad input before anything starts, and whoever asks while the process is started
again waits a moment instead of being refused.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from socket import socket

import trio

from taktora_trio.errors import check_library
from taktora_trio.processes import interpreter
from taktora_trio.processes.parent.process import as_process, spawn
from taktora_trio.runners.child_log import log_line
from taktora_trio.runners.configuration.address import parse_address
from taktora_trio.runners.configuration.endpoint import Endpoint
from taktora_trio.runners.configuration.reading import Configuration
from taktora_trio.runners.endpoint.listening import open_listener, url_of
from taktora_trio.runners.endpoint.token import check_token, read_token
from taktora_trio.runners.parts.halves import Halves
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.policy import RestartPolicy
from taktora_trio.supervision.supervisor import Supervisor

__all__ = ["check_libraries", "listening", "serving_beside"]

log = logging.getLogger(__name__)

# It never ends a run, and is tried for ever: who looks in only sometimes is to find it.
_POLICY = RestartPolicy(
    restart="always", backoff=Backoff(initial=0.1, maximum=30.0), intensity=1_000_000, watchdog=10.0, stop_grace=1.0
)
_USAGE_ERROR = 2  # the token's file has gone, for example: another try would end the same way


@contextlib.contextmanager
def listening(endpoint: Endpoint) -> Iterator[socket]:
    """Yield a socket that listens as it was chosen. Raises `ConfigError` if that can't be."""
    check_libraries("--endpoint")
    address, token = parse_address(endpoint.address), read_token(endpoint.token_file)
    with open_listener(address) as listener:
        check_token(listener, token, endpoint.address)
        yield listener


def check_libraries(user: str) -> None:
    """Raise `ConfigError` if a library is missing that only an endpoint needs."""
    check_library(user, "h11", "h11", "operate")
    check_library(user, "prometheus_client", "prometheus-client", "operate")


@contextlib.asynccontextmanager
async def serving_beside(configuration: Configuration, listener: socket, halves: Halves | None) -> AsyncIterator[None]:
    """Have a process serve the endpoint for as long as the block lasts.

    With `halves`, what it writes goes the way of theirs; else it becomes part of our own log.
    """
    endpoint, fd = configuration.endpoint, listener.fileno()
    assert endpoint is not None
    arguments = ["--endpoint", f"fd:{fd}", *endpoint.arguments(), "--domain", configuration.domain]
    start = spawn(
        [
            *interpreter.program("taktora_trio"),
            "endpoint",
            *arguments,
            "--log",
            configuration.log if halves else "json",
        ],
        [fd],
        interpreter.environment(),
    )
    if halves is None:
        runner = as_process("endpoint", start, _POLICY, write=log_line, permanent_codes=(_USAGE_ERROR,))
    else:
        runner = halves.beside("endpoint", start, _POLICY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Supervisor("endpoint", runner, _POLICY, revivable=False).run)
        log.info(
            "endpoint: probes, metrics%s at %s",
            " and a page" * endpoint.page,
            url_of(listener),
            extra={"event": "endpoint", "address": url_of(listener)},
        )
        yield
        nursery.cancel_scope.cancel()
