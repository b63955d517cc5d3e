"""The gateway's node: a client's lasts for one connection, that of a peer or a router as long as the gateway.

For others find a peer by themselves, and send to it what is for it alone: it is there, whoever else is.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio
from trio_util import AsyncValue

from taktora_trio.connectors.connection import ConnectFailed
from taktora_trio.connectors.zenoh.nodes import open_node
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.session import Node
from taktora_trio.errors import ConnectorError, leaves

__all__ = ["Membership", "NobodyThere"]


class NobodyThere(ConnectFailed):
    """The node is there, and no other one is linked to it."""


class Membership:
    """Joins the network, again and again. Let `serve` run once."""

    def __init__(self, options: ZenohOptions) -> None:
        self._options = options
        self._joined = AsyncValue[Node | ConnectorError | None](None)  # of a peer or a router
        self._wanted = trio.Event()
        self._wanted.set()
        self.patience = options.connect_timeout
        """The seconds for others to be linked to the node of a peer or a router."""

    @property
    def is_lasting(self) -> bool:
        """True if the node lasts as long as the gateway."""
        return self._options.mode != "client"

    async def serve(self) -> None:
        """Serve: have the node that lasts. Runs until it is cancelled."""
        while self.is_lasting:
            await self._wanted.wait()
            self._wanted = trio.Event()
            try:
                async with open_node(self._options) as self._joined.value:
                    await trio.sleep_forever()
            except* ConnectorError as group:
                failure = leaves(group)[0]
                assert isinstance(failure, ConnectorError)
                self._joined.value = failure

    @contextlib.asynccontextmanager
    async def joined(self) -> AsyncIterator[Node]:
        """The node, with others linked to it. Raises `ConnectFailed`, `ConnectRefused` and `ConfigError`."""
        if not self.is_lasting:
            async with open_node(self._options) as node:
                await node.wait_until_linked()
                yield node
            return
        if isinstance(self._joined.value, ConnectorError):
            self._joined.value = None
            self._wanted.set()
        joined = await self._joined.wait_value(lambda joined: joined is not None)
        if not isinstance(joined, Node):
            assert joined is not None
            raise joined
        with trio.move_on_after(self.patience) as waited:
            await joined.wait_until_linked()
        if waited.cancelled_caught:
            raise NobodyThere("no other node is linked to this one")
        yield joined
