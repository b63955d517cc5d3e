"""Journal: what the app has published so far, and who waits for more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import trio

from taktora_trio.channels import Metadata
from taktora_trio.channels.descriptor import ChannelDescriptor
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.connection import Guarantee
from taktora_trio.connectors.peer import Published

__all__ = ["Journal", "Sent"]


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """A message that the app has published, as everybody else gets it."""

    topic: str
    payload: bytes
    connector: str
    """The name of the connector that it went through."""
    channel: str | None
    """The name of the outbound channel whose topic this is; `None` for what the app has not sent itself, as a last
    will."""
    metadata: Metadata | None = None
    correlation_id: bytes = b""
    retained: bool = False
    """True if the other side is to keep it for later subscribers."""
    guarantee: Guarantee = "at least once"
    """How often it arrives, whatever fails."""
    decode: Callable[[bytes], Any] = bytes

    @property
    def value(self) -> Any:
        """The message, decoded as the channel's type; the payload itself where there is no channel.

        Raises `CodecError` for a payload that is none of that type.
        """
        return self.decode(self.payload)

    def __str__(self) -> str:
        return f"{self.topic}: {self.payload[:80]!r}"


class Journal:
    """All that the app has published, in the order in which it came. A backend calls `add`."""

    def __init__(self, connectors: Iterable[Connector]) -> None:
        self.all: list[Sent] = []
        self._connectors = {connector.name: connector for connector in connectors}
        self._fresh: list[Sent] = []  # not returned by `take` yet
        self._changed = trio.Event()

    def add(self, connector: str, published: Published) -> None:
        """Note a message that a connector has published."""
        declared = self._connectors[connector]
        channel = channel_of(declared, published.topic)
        sent = Sent(
            topic=published.topic,
            payload=published.payload,
            connector=connector,
            channel=None if channel is None else channel.name,
            metadata=published.metadata,
            correlation_id=published.correlation_id,
            retained=published.retained,
            guarantee=published.guarantee,
            decode=bytes if channel is None else declared.codec.decoder(channel.message_type),
        )
        self.all.append(sent)
        self._fresh.append(sent)
        self.wake()

    def take(self, fits: Callable[[Sent], bool]) -> Sent | None:
        """Return the first message that fits and was not taken before; `None` if there is none."""
        for index, sent in enumerate(self._fresh):
            if fits(sent):
                return self._fresh.pop(index)
        return None

    @property
    def fresh(self) -> list[Sent]:
        """Those that were not taken."""
        return list(self._fresh)

    async def wait(self) -> None:
        """Wait until something changes: a message comes, or `wake` is called."""
        await self._changed.wait()

    def wake(self) -> None:
        """Have all that wait look again."""
        self._changed.set()
        self._changed = trio.Event()


def channel_of(connector: Connector, topic: str) -> ChannelDescriptor[Any] | None:
    """Return the outbound channel that a topic is for: one for this topic alone before one for many."""
    outbound = [channel for channel in connector.channels if channel.direction == "out"]
    fitting = [channel for channel in outbound if connector.overlap(channel.routing.address, topic)]
    return min(fitting, key=lambda channel: channel.routing.is_pattern, default=None)
