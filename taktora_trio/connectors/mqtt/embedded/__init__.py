"""Runs a broker on loopback (amqtt, an extra), so that a newcomer needs none. For demos, not for production."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import AsyncIterator

from taktora_trio.connectors.supply import open_supply_process
from taktora_trio.errors import ConfigError

__all__ = ["open_embedded_broker"]


@contextlib.asynccontextmanager
async def open_embedded_broker() -> AsyncIterator[str]:
    """Run a broker on a free port of 127.0.0.1 for as long as the block lasts, and yield its URL.

    Raises `ConfigError` if it can't be had.
    """
    if importlib.util.find_spec("amqtt") is None:
        raise ConfigError("--broker embedded needs amqtt: pip install 'taktora-trio[embedded]', or name a broker")
    instead = "run a broker of your own and name it with --broker"
    async with open_supply_process(__name__, "broker", instead) as port:
        yield f"mqtt://127.0.0.1:{port}"
