"""A program for a test: it is the app, and the gateway is a task of it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator

from taktora_trio import Connector, ConnectorHost, Deployment, Domain, open_deployment

__all__ = ["open_program"]


@contextlib.asynccontextmanager
async def open_program(connector: Connector, name: str = "") -> AsyncIterator[ConnectorHost]:
    """Run a gateway with this connector, and yield the app's host. At the end of the block the gateway drains.

    The other side knows it by `name`, which is one of its own by default.
    """
    domain = Domain(name or f"conformance-{uuid.uuid4().hex[:12]}")
    try:
        async with open_deployment(Deployment("conformance", None, [connector]), domain=domain.name) as host:
            yield host
    finally:
        domain.remove_if_alone()
        if not name:  # else another program goes on where this one has stopped
            domain.forget()
