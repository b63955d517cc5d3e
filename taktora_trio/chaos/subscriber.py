"""An independent subscriber: it hears what the deployment publishes, without any code of the gateway."""

from __future__ import annotations

import trio
from trio_util import AsyncValue

from taktora_trio.chaos.tally import Tally

__all__ = ["Subscriber"]


class Subscriber:
    """Counts what has come, and says when it listens. A protocol derives its own, which feeds it."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.connections = AsyncValue(0)
        """The number of times it was subscribed."""
        self.changes = AsyncValue(0)
        """Another value after each batch of messages."""

    async def wait_until_subscribed(self, times: int, seconds: float) -> None:
        """Wait until it was subscribed so often. Raises `trio.TooSlowError`."""
        with trio.fail_after(seconds):
            await self.connections.wait_value(lambda count: count >= times)

    async def wait_until_heard(self, series: str, number: int, seconds: float) -> None:
        """Wait until this number of the series has come. Raises `trio.TooSlowError`."""
        with trio.fail_after(seconds):
            await self.changes.wait_value(lambda _: self.tally.last.get(series, 0) >= number)
