"""What a gateway knows over all its connections, and much of it over its own end: values, tokens, publishers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import trio

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.connection import Incoming, OnMessage
from taktora_trio.connectors.zenoh.keys import intersects
from taktora_trio.connectors.zenoh.lasting.kept_by_others import KeptByOthers
from taktora_trio.connectors.zenoh.lasting.kept_pairs import memory_for
from taktora_trio.connectors.zenoh.lasting.latched import LastValues
from taktora_trio.connectors.zenoh.lasting.missed import Missed
from taktora_trio.connectors.zenoh.lasting.presence import TOKENS_SPACE, TokenNews, WatchedTokens
from taktora_trio.connectors.zenoh.lasting.recovery import SOURCES_SPACE, Sources
from taktora_trio.connectors.zenoh.options import LEASE, ZenohOptions
from taktora_trio.connectors.zenoh.routing import ZenohRouting
from taktora_trio.connectors.zenoh.session import OnSample, Question, Sample, Session

__all__ = ["Lasting"]


class Lasting:
    """What the channels need of it: where none is latched, watches tokens or recovers, there is nothing."""

    def __init__(
        self,
        declared: Sequence[ChannelDescriptor[Any]],
        options: ZenohOptions,
        memory: Callable[[str, int], memoryview],
        degrade: Callable[[str, float], None],
        truths: tuple[bytes, bytes],
        on_message: OnMessage,
    ) -> None:
        """`memory` is that of `GatewayChannels`, and `degrade(reason, seconds)` shows in the health what is wrong.

        `truths` are the payloads of false and of true.
        """
        inbound, outbound = (
            [cast(ZenohRouting, channel.routing) for channel in declared if channel.direction == direction]
            for direction in ("in", "out")
        )
        self.missed = Missed(degrade)
        self.last_values: LastValues | None = None
        if latched := [routing.address for routing in outbound if routing.latched]:
            space = options.latched_space
            kept = memory(f"latched-{space}", memory_for(space))  # another space is another layout
            for_others = any(routing.others_only for routing in inbound)
            self.last_values = LastValues(latched, kept, degrade, others_only=for_others)
        self._kept_by_others: KeptByOthers | None = None
        if latched := [routing.address for routing in inbound if routing.latched]:
            self._kept_by_others = KeptByOthers(latched, options.latched_timeout)
        self._tokens: WatchedTokens | None = None
        if watched := [routing.address for routing in inbound if routing.liveliness]:
            tokens = memory("tokens", memory_for(TOKENS_SPACE))
            self._tokens = WatchedTokens(watched, truths, tokens, options.lease or LEASE, on_message)
        self._recovering = {routing.address: routing.recover for routing in inbound if routing.recover}
        self._sources: Sources | None = None
        if self._recovering:
            self._sources = Sources(memory("sources", memory_for(SOURCES_SPACE)), self.missed)

    async def subscribe(self, session: Session, expression: str, take: OnSample, *, others_only: bool) -> None:
        """Subscribe, and call `take` with what is news. Raises `ConnectionLost`."""
        if self._kept_by_others is not None:
            take = partial(_take_if, self._kept_by_others.takes, take)
        recover = max((most for own, most in self._recovering.items() if intersects(own, expression)), default=0)
        if recover and self._sources is not None:
            take = partial(_take_if, self._sources.takes, take)
        stamped = self._kept_by_others is not None
        await session.subscribe(expression, take, stamped=stamped, others_only=others_only, recover=recover)

    def note_asked(self, question: Question) -> None:
        """A message has come by this query."""
        if self._kept_by_others is not None:
            self._kept_by_others.takes(Sample(question.key, question.payload, question.encoding))

    async def start(self, session: Session) -> None:
        """Tell and watch by this session, which is subscribed. Raises `ConnectionLost`."""
        session.watch_discarded(partial(self.missed.tell, what="there was no room for them"))
        for part in (self.last_values, self._kept_by_others, self._tokens):
            if part is not None:
                await part.start(session)

    async def serve(self, session: Session, on_kept: OnSample) -> None:
        """Serve: `on_kept` is called with what others have kept. Runs until it is cancelled."""
        async with trio.open_nursery() as nursery:
            if self._kept_by_others is not None:
                nursery.start_soon(self._kept_by_others.serve, session, on_kept)
            if self._tokens is not None:
                nursery.start_soon(self._tokens.serve)

    def acknowledge(self, message: Incoming) -> None:
        """The app is done with this message."""
        if isinstance(message, TokenNews) and self._tokens is not None:
            self._tokens.acknowledge(message)


def _take_if(is_wanted: Callable[[Sample], bool], take: OnSample, sample: Sample) -> None:
    if is_wanted(sample):
        take(sample)
