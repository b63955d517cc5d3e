"""Opens a node: the library's, or one of a network in this process."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.session import Node

__all__ = ["open_node"]


def open_node(options: ZenohOptions) -> AbstractAsyncContextManager[Node]:
    """Join the network. In client mode the block raises `ConnectFailed` if there is no router in `connect_timeout`."""
    if options.session == "memory":
        from taktora_trio.connectors.zenoh.memory.node import open_memory_node

        return open_memory_node(options)
    from taktora_trio.connectors.zenoh.native.node import open_node as open_native_node  # the library is imported there

    return open_native_node(options)
