"""A program for a test: both halves of a deployment in this process, with a domain of their own."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator

import trio

from taktora_trio import Connector, ConnectorHost, Deployment, Domain
from taktora_trio.runners.scripts.in_process import open_in_process

__all__ = ["open_program"]


@contextlib.asynccontextmanager
async def open_program(connector: Connector) -> AsyncIterator[ConnectorHost]:
    """Run a gateway with this connector, and yield the app's host. At the end of the block the gateway drains."""
    domain = Domain(f"conformance-{uuid.uuid4().hex[:12]}")
    try:
        async with open_in_process(Deployment("conformance", None, [connector]), domain, trio.Event()) as host:
            yield host
    finally:
        domain.remove_if_alone()
