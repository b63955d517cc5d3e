"""A program for a test: both halves of a deployment in this process, with a domain of their own."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator

import trio

from taktora_trio import Connector, ConnectorHost, Deployment
from taktora_trio.runners.scripts.in_process import run_in_process
from taktora_trio.transport.domain import Domain

__all__ = ["open_program"]


@contextlib.asynccontextmanager
async def open_program(connector: Connector) -> AsyncIterator[ConnectorHost]:
    """Run a gateway with this connector, and yield the app's host. At the end of the block the gateway drains."""
    hosts: list[ConnectorHost] = []
    opened, over = trio.Event(), trio.Event()

    async def app(host: ConnectorHost) -> None:
        hosts.append(host)
        opened.set()
        await over.wait()

    domain = Domain(f"conformance-{uuid.uuid4().hex[:12]}")
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_in_process, Deployment("conformance", app, [connector]), domain, trio.Event())
            await opened.wait()
            yield hosts[0]
            over.set()
    finally:
        domain.remove_if_alone()
