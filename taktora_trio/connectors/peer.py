"""MemoryPeer: the other side of a connector within this process, for the tests of an app.

A protocol that has one returns it from `Connector.in_memory`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import msgspec

from taktora_trio.channels import Metadata
from taktora_trio.connectors.connection import Guarantee

__all__ = ["MemoryPeer", "OnPublished", "Published"]


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A message that the app has published, as its other side has it."""

    topic: str
    payload: bytes
    metadata: Metadata | None = None
    correlation_id: bytes = b""
    retained: bool = False
    """True if the other side is to keep it for later subscribers."""
    guarantee: Guarantee = "at least once"


OnPublished = Callable[[Published], None]


class MemoryPeer(ABC):
    """What a test does to the other side of one connector."""

    @abstractmethod
    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        metadata: Metadata | None,
        correlation_id: bytes,
        retain: bool,
        **options: Any,
    ) -> None:
        """Publish a message as somebody else would. `options` are the protocol's own.

        Raises `ConfigError` for what the protocol can't carry.
        """

    @abstractmethod
    def cut(self) -> None:
        """End the connector's connections. New ones work."""

    @abstractmethod
    def set(self, *, unreachable: bool | None = None, refusing: bool | None = None, delay: float | None = None) -> None:
        """Change how the other side behaves from now on; `None` leaves it as it is.

        `unreachable` has no new connection come about. `refusing` refuses each new one for good, as with a wrong
        password. `delay` is the time in seconds from a message of the app's to its acknowledgement: 0 for at once, and
        infinity for none at all.
        """

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Be there while the block lasts, which is open before the connector connects, and until it has ended.

        For another side that has tasks: by default there are none.
        """
        return nullcontext()

    @abstractmethod
    def close(self) -> None:
        """Forget what was kept."""
