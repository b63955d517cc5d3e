"""Drives a connector's client as a gateway would, one connection at a time, and records what it does."""

from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import trio

from taktora_trio import (
    Client,
    ConnectFailed,
    Connection,
    ConnectionLost,
    Connector,
    ConnectRefused,
    Envelope,
    GatewayChannels,
    Header,
    Incoming,
    Outbound,
)
from taktora_trio.errors import leaves
from taktora_trio.executor import Executor
from taktora_trio.health import HealthBoard

__all__ = ["Driver"]

TIMEOUT = 10.0  # seconds that a test may wait for something: it is there long before, or never


class _Source:
    """Stands in for the gateway's end of an outbound channel, on which nobody has ever begun to publish anything."""

    begun_before = 0

    def begin(self, header: Header, begun: Callable[[], None]) -> None:
        begun()


class Driver:
    """One client, with a record of its calls of `on_done` and `on_message`."""

    def __init__(self, connector: Connector, name: str) -> None:
        self.connector, self.name = connector, name
        sources: dict[str, Any] = {ch.name: _Source() for ch in connector.channels if ch.direction == "out"}
        self.health = HealthBoard([connector.name])
        self.client: Client = connector.client(GatewayChannels(sources, {}, Executor(), self.health, name), self._came)
        self.done: list[tuple[str, int, str]] = []
        """Each call of `on_done`: channel, sequence number, refusal."""
        self._channels = {channel.name: channel for channel in connector.channels}
        self._numbers = defaultdict[str, int](int)
        self._put, self._take = trio.open_memory_channel[Incoming](math.inf)
        self._news = trio.Event()

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """A connection. What goes wrong is raised as it is, and not in a group."""
        try:
            async with self.client.connect() as connection:
                await connection.start()
                yield connection
        except BaseExceptionGroup as group:
            raise _most_telling(group) from None

    def envelopes(self, channel: str, *payloads: bytes) -> list[Envelope]:
        """The channel's next messages, as they lie in shared memory."""
        return [self._envelope(channel, payload) for payload in payloads]

    def publish(
        self, connection: Connection, channel: str, envelopes: Sequence[Envelope], *, again: bool = False
    ) -> None:
        """Publish them, and note when each is done."""

        def on_done(number: int, refusal: str) -> None:
            self.done.append((channel, number, refusal))
            self._news.set()
            self._news = trio.Event()

        for envelope in envelopes:
            connection.publish(channel, envelope, on_done, again=again)

    async def until_done(self, count: int) -> None:
        """Wait until `on_done` was called so often."""
        with trio.fail_after(TIMEOUT):
            while len(self.done) < count:
                await self._news.wait()

    async def take(self, count: int) -> list[Incoming]:
        """Wait for so many messages from the other side."""
        with trio.fail_after(TIMEOUT):
            return [await self._take.receive() for _ in range(count)]

    @property
    def waiting(self) -> int:
        """The number of messages that have come and were not taken."""
        return self._take.statistics().current_buffer_used

    async def lost(self, connection: Connection) -> ConnectionLost:
        """Wait for the end of the connection."""
        with trio.fail_after(TIMEOUT):
            return await connection.wait_until_lost()

    def _came(self, message: Incoming) -> None:
        self._put.send_nowait(message)

    def _envelope(self, channel: str, payload: bytes) -> Envelope:
        self._numbers[channel] += 1
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        descriptor = self._channels[channel]
        assert isinstance(descriptor, Outbound)
        return Envelope(payload, Header(self._numbers[channel], time.time_ns(), now), descriptor.routing.address)


def _most_telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    causes = leaves(group)
    expected = [cause for cause in causes if isinstance(cause, ConnectFailed | ConnectRefused | ConnectionLost)]
    unexpected = [cause for cause in causes if cause not in expected and not isinstance(cause, trio.Cancelled)]
    return (unexpected or expected or causes)[0]
