"""What of a connection's channels is queries: acknowledged messages, and the requests and replies of an `Exchange`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol, cast

import trio

from taktora_trio.channels import ChannelDescriptor, Envelope
from taktora_trio.channels.exchange import reply_channel
from taktora_trio.connectors.connection import Incoming, OnDone, OnMessage
from taktora_trio.connectors.zenoh.keys import is_pattern
from taktora_trio.connectors.zenoh.keytree import minimal_expressions
from taktora_trio.connectors.zenoh.metadata import Carrier
from taktora_trio.connectors.zenoh.queries.acknowledged_inbound import Acknowledging, Asked
from taktora_trio.connectors.zenoh.queries.acknowledged_outbound import AcknowledgedChannel
from taktora_trio.connectors.zenoh.queries.requests import Reply, RequestChannel
from taktora_trio.connectors.zenoh.queries.responses import ResponseChannel
from taktora_trio.connectors.zenoh.routing import ZenohRouting
from taktora_trio.connectors.zenoh.session import Question, Session

__all__ = ["Publish", "Queries", "is_query"]


class Publish(Protocol):
    def __call__(self, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None: ...


def is_query(channel: ChannelDescriptor[Any]) -> bool:
    """Return whether messages of this channel come as queries or their replies, and not by a subscription."""
    return bool(channel.exchange) or cast(ZenohRouting, channel.routing).acknowledged


class Queries:
    """The queries of one connection."""

    def __init__(
        self,
        channels: Iterable[ChannelDescriptor[Any]],
        session: Session,
        on_message: OnMessage,
        carrier: Carrier,
        acknowledging: Acknowledging,
        name: str,
        sender: str,
        on_trouble: Callable[[str, str | None], None],
        on_asked: Callable[[Question], None],
        is_for_others: Callable[[str], bool],
    ) -> None:
        """`name` is what others know this gateway by, and `sender` this process of it. `on_trouble` is called again and
        again while messages wait and nobody takes them, with the reason and the one of that channel before;
        `on_asked` with the query of each new acknowledged message,
        before `on_message`. `is_for_others` says whether what this node asks itself is not
        for the channels on these keys."""
        self.publishers: dict[str, Publish] = {}
        """What publishes, by the names of outbound channels."""
        self._session, self._on_message = session, on_message
        self._acknowledging = acknowledging
        self._on_asked, self._is_for_others = on_asked, is_for_others
        self._acknowledged: list[AcknowledgedChannel] = []
        self._requests: list[RequestChannel] = []
        self._responses: list[ResponseChannel] = []
        asked = []
        by_name = {channel.name: channel for channel in channels}
        for channel in by_name.values():
            routing, replies = cast(ZenohRouting, channel.routing), _replies_to(channel, by_name)
            if replies is not None and channel.direction == "out":
                requests = RequestChannel(
                    routing, session, carrier, replies.address, replies.for_client(name), on_message
                )
                self._requests.append(requests)
                self.publishers[channel.name] = requests.publish
            elif replies is not None:
                responses = ResponseChannel(routing, replies, carrier)
                self._responses.append(responses)
                self.publishers[reply_channel(channel) or ""] = responses.publish
            elif routing.acknowledged and channel.direction == "out":
                sending = AcknowledgedChannel(
                    routing.address,
                    routing.quality,
                    session,
                    f"{sender}/{channel.name}",
                    carrier.carry,
                    _Trouble(on_trouble, channel.name),
                )
                self._acknowledged.append(sending)
                self.publishers[channel.name] = sending.publish
            elif routing.acknowledged:
                asked.append(routing.address)
        self._asked_keys = minimal_expressions(asked)

    async def start(self) -> None:
        """Declare what is answered. Raises `ConnectionLost`."""
        for key in self._asked_keys:
            await self._answer(key, self._asked)
        for responses in self._responses:
            await self._answer(responses.key, partial(self._requested, responses))
        for channel in self._acknowledged:
            # Whether somebody takes all that a pattern matches says nothing of a message.
            complete = not is_pattern(channel.key)
            await self._session.watch_matching(channel.key, channel.matching, complete=complete)
        for requests in self._requests:
            await self._session.watch_matching(requests.key, requests.matching)

    async def serve(self) -> None:
        """Serve until cancelled: ask again what was not answered."""
        async with trio.open_nursery() as nursery:
            for channel in self._acknowledged:
                nursery.start_soon(channel.serve)
            for requests in self._requests:
                nursery.start_soon(requests.serve)

    def acknowledge(self, message: Incoming) -> None:
        """The app is done with a message, or has it, if it is one that was asked or is a reply."""
        if isinstance(message, Asked):
            self._acknowledging.acknowledge(message)
        elif isinstance(message, Reply):
            for requests in self._requests:
                requests.acknowledge(message)

    async def _answer(self, key: str, on_question: Callable[[Question], None]) -> None:
        await self._session.answer(key, on_question, others_only=self._is_for_others(key))

    def _asked(self, question: Question) -> None:
        message = self._acknowledging.take(question)
        if message is not None:
            self._on_asked(question)
            self._on_message(message)

    def _requested(self, responses: ResponseChannel, question: Question) -> None:
        request = responses.take(question)
        if request is not None:
            self._on_message(request)


def _replies_to(channel: ChannelDescriptor[Any], by_name: Mapping[str, ChannelDescriptor[Any]]) -> ZenohRouting | None:
    """Return where the replies go to requests of this channel, if it is one of requests."""
    replies = by_name.get(reply_channel(channel) or "")
    return None if replies is None else cast(ZenohRouting, replies.routing)


class _Trouble:
    """Tells of a channel's trouble, and what it told before, whose place that takes: the same, with a newer figure."""

    def __init__(self, on_trouble: Callable[[str, str | None], None], channel: str) -> None:
        self._on_trouble, self._channel = on_trouble, channel
        self._before: str | None = None

    def __call__(self, reason: str) -> None:
        before, self._before = self._before, f"channel {self._channel}: {reason}"
        self._on_trouble(self._before, before)
