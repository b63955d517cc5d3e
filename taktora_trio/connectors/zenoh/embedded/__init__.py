"""Runs a Zenoh router on loopback, so that a newcomer needs none. It keeps no values, and finds nobody by itself.

`python -m taktora_trio.connectors.zenoh.embedded` runs one until Ctrl-C, for several runs on this machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import AsyncIterator

from taktora_trio.connectors.supply import open_supply_process
from taktora_trio.errors import ConfigError

__all__ = ["open_embedded_router"]


@contextlib.asynccontextmanager
async def open_embedded_router() -> AsyncIterator[str]:
    """Run a router on a free port of 127.0.0.1 for as long as the block lasts, and yield its endpoint.

    Raises `ConfigError` if it can't be had.
    """
    if importlib.util.find_spec("zenoh") is None:
        raise ConfigError("--connect embedded needs zenoh: pip install 'taktora-trio[zenoh]'")
    instead = "run a router of your own and name it with --connect"
    async with open_supply_process(__name__, "router", instead) as port:
        yield f"tcp/127.0.0.1:{port}"
