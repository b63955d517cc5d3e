"""Guest: whoever is on the other side of a connector, as the tests of an app have it. It is a node of its own.

It takes and acknowledges what the connector publishes, and publishes what the test says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

import trio
from trio_util import RepeatedEvent

from taktora_trio.channels import ChannelDescriptor, Metadata
from taktora_trio.connectors.peer import Published
from taktora_trio.connectors.zenoh.keys import check_key
from taktora_trio.connectors.zenoh.keytree import KeyTree
from taktora_trio.connectors.zenoh.metadata import attached, read_beside
from taktora_trio.connectors.zenoh.routing import ZenohRouting
from taktora_trio.connectors.zenoh.session import Quality, Question, Sample, Session
from taktora_trio.errors import ConfigError

__all__ = ["Guest", "OnTaken"]

OnTaken: TypeAlias = Callable[[Published], None]


class Guest:
    """What one connector has on its other side."""

    def __init__(self, channels: Iterable[ChannelDescriptor[Any]]) -> None:
        """`channels` are the connector's."""
        self._outbound, self._inbound = KeyTree[ZenohRouting](), KeyTree[ZenohRouting]()
        for channel in channels:
            routing = cast(ZenohRouting, channel.routing)
            (self._outbound if channel.direction == "out" else self._inbound).add(routing.address, routing)
        self._outbound_keys = {
            channel.routing.address: cast(ZenohRouting, channel.routing).acknowledged
            for channel in channels
            if channel.direction == "out"
        }
        self._session: Session | None = None
        self._delay = 0.0
        self._held: deque[tuple[float, Question]] = deque()  # what it has taken and not acknowledged, since when
        self._news = RepeatedEvent()

    # What it takes

    async def start(self, session: Session, on_taken: OnTaken | None = None) -> None:
        """Take what the connector publishes, and call `on_taken` with it."""
        self._session = session

        def asked(question: Question) -> None:
            if on_taken is not None:
                sample = Sample(question.key, question.payload, question.encoding, question.attachment)
                on_taken(self.published(sample, acknowledged=True))
            self._held.append((trio.current_time(), question))
            self._let_go()
            self._news.set()

        def came(sample: Sample) -> None:
            assert on_taken is not None
            on_taken(self.published(sample))

        for key, acknowledged in self._outbound_keys.items():
            if acknowledged:
                await session.answer(key, asked)
            elif on_taken is not None:
                await session.subscribe(key, came, others_only=True)

    def published(self, sample: Sample, *, acknowledged: bool = False) -> Published:
        """Return what the connector has published, as a test sees it."""
        beside = read_beside(sample.encoding, sample.attachment)
        return Published(
            topic=sample.key,
            payload=sample.payload,
            metadata=beside.metadata,
            correlation_id=beside.correlation_id,
            retained=any(routing.latched for routing in self._outbound.match(sample.key)),
            guarantee="at least once" if acknowledged else "at most once",
        )

    def set_delay(self, seconds: float) -> None:
        """Change the time from each message to its acknowledgement, also of those that it has taken already."""
        self._delay = seconds
        self._let_go()
        self._news.set()

    async def serve(self) -> None:
        """Serve: acknowledge when it is time. Runs until cancelled."""
        while True:
            self._let_go()
            with trio.move_on_at(self._held[0][0] + self._delay if self._held else float("inf")):
                await self._news.wait()

    def _let_go(self) -> None:
        while self._held and self._held[0][0] + self._delay <= trio.current_time():
            _, question = self._held.popleft()
            question.reply(question.key, b"")
            question.close()

    # What it publishes

    async def flush(self) -> None:
        """Wait until the library has what was published so far."""
        assert self._session is not None
        await self._session.flush()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        metadata: Metadata | None,
        correlation_id: bytes,
        retain: bool,
        **unknown: Any,
    ) -> None:
        """Publish a message. Raises `ConfigError` for what can't be published, and for options that there are not."""
        if names := ", ".join(unknown):
            raise ConfigError(
                f"Zenoh has no {names}: a content type, a response topic, an expiry and user properties are in"
                " metadata=Metadata(...)"
            )
        check_key(topic)
        assert self._session is not None
        encoding = metadata.content_type if metadata is not None else ""
        self._session.put(topic, payload, Quality(), encoding, attached(metadata, correlation_id))
