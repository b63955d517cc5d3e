"""LivePeer: the other side of a connector as a real one, for the tests of an app."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from taktora_trio.channels import Metadata
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.peer import Published
from taktora_trio.errors import ConfigError
from taktora_trio.testing.backend import Broker

__all__ = ["LivePeer", "OnPublishedBy", "PeerOpener", "for_connector", "open_peers"]

OnPublishedBy: TypeAlias = Callable[[str, Published], None]
"""Called with the name of the connector, and what it has published."""


class LivePeer(ABC):
    """What a test does to the real other side of one connector."""

    settings: Mapping[str, str]
    """The settings by which the connector reaches it, by their names at the command line, or by keys of a file
    (`connector.NAME.OPTION`)."""

    @abstractmethod
    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        metadata: Metadata | None,
        correlation_id: bytes,
        retain: bool,
        **options: Any,
    ) -> None:
        """Publish a message as somebody else would, and wait until the other side has it. See `MemoryPeer.publish`."""

    @abstractmethod
    async def settle(self) -> None:
        """Wait until the test has heard all that the other side has taken so far."""

    @abstractmethod
    def cut(self) -> None:
        """End the connector's connections. New ones work."""

    @abstractmethod
    def set(self, *, unreachable: bool | None = None, refusing: bool | None = None, delay: float | None = None) -> None:
        """Change how the other side behaves from now on. See `MemoryPeer.set`."""


PeerOpener: TypeAlias = Callable[
    [Sequence[Any], Mapping[str, str], Path, Broker, OnPublishedBy],
    AbstractAsyncContextManager[Mapping[str, LivePeer]],
]
"""What `Connector.live_peers` names: called with the connectors of one class, the names by which the other side knows
their gateways, a folder for files, the broker of a peer, and with what to call for each message."""


def for_connector(broker: Broker, connector: str) -> str | None:
    """Return the broker of this connector's peer; `None` if one is to be started."""
    return broker.get(connector) if isinstance(broker, Mapping) else broker


async def open_peers(
    stack: AsyncExitStack,
    connectors: Sequence[Connector],
    known_as: Mapping[str, str],
    folder: Path,
    broker: Broker,
    on_published: OnPublishedBy,
) -> dict[str, LivePeer]:
    """Open the peers of all connectors, and return them by the connectors' names. Raises `ConfigError`."""
    if isinstance(broker, Mapping):
        names = [connector.name for connector in connectors]
        for name in broker:
            if name not in names:
                there = ", ".join(names)
                raise ConfigError(f"broker names connector {name!r}, which is not in this deployment: it has {there}")
    peers: dict[str, LivePeer] = {}
    for opener in dict.fromkeys(connector.live_peers for connector in connectors):
        alike = [connector for connector in connectors if connector.live_peers == opener]
        if not opener:
            raise ConfigError(
                f"connector {alike[0].name!r} ({type(alike[0]).__name__}) has no real peer for tests: test it in"
                " memory, or name what opens one in `live_peers` of its class"
            )
        module, _, function = opener.partition(":")
        open_alike: PeerOpener = getattr(import_module(module), function)
        peers |= await stack.enter_async_context(open_alike(alike, known_as, folder, broker, on_published))
    return peers
