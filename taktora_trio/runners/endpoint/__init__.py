"""The HTTP endpoint of a run, as far as the run has to know it: its token, and the process that serves it.

listening  where it listens
token      the token that whoever asks has to give
beside     the process, supervised

What that process does is in `operate/endpoint/`. Most runs have no endpoint: nothing of it is imported for them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from socket import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taktora_trio.runners.configuration.endpoint import Endpoint
    from taktora_trio.runners.configuration.reading import Configuration
    from taktora_trio.runners.parts.halves import Halves

__all__ = ["open_endpoint", "open_endpoint_socket"]


@contextlib.contextmanager
def open_endpoint_socket(endpoint: Endpoint | None) -> Iterator[socket | None]:
    """Yield the socket of a run's endpoint; `None` if it has none. Raises `ConfigError` if it can't be had so."""
    if endpoint is None:
        yield None
        return
    from taktora_trio.runners.endpoint.beside import listening

    with listening(endpoint) as listener:
        yield listener


@contextlib.asynccontextmanager
async def open_endpoint(
    configuration: Configuration, listener: socket | None, halves: Halves | None = None
) -> AsyncIterator[None]:
    """Have the endpoint served for as long as the block lasts, if there is one: by a process that `halves` know of."""
    if listener is None:
        yield
        return
    from taktora_trio.runners.endpoint.beside import serving_beside

    async with serving_beside(configuration, listener, halves):
        yield
