"""The exchanges of an app under test, as the guest on the other side takes part in them: it asks, and it replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

import attrs
import trio
from msgspec.structs import replace

from taktora_trio.channels import ChannelDescriptor, Envelope, Metadata
from taktora_trio.channels.exchange import reply_channel
from taktora_trio.connectors.connection import Incoming
from taktora_trio.connectors.zenoh.keys import intersects
from taktora_trio.connectors.zenoh.metadata import Carrier
from taktora_trio.connectors.zenoh.queries.requests import Reply, RequestChannel
from taktora_trio.connectors.zenoh.queries.responses import ResponseChannel
from taktora_trio.connectors.zenoh.routing import ZenohRouting
from taktora_trio.connectors.zenoh.session import Question, Session

__all__ = ["GuestExchanges"]

_OnMessage: TypeAlias = Callable[[Incoming], None]


@attrs.frozen
class _Answering:
    """Requests that the app sends, and where their replies go."""

    replies: ZenohRouting
    channel: ResponseChannel


@attrs.define
class _Asking:
    """Requests that the app gets."""

    requests: ZenohRouting
    replies: ZenohRouting
    channel: RequestChannel | None = None


class GuestExchanges:
    """Requests and replies both ways. The gateway's own code does it, with the parts exchanged."""

    def __init__(self, channels: Iterable[ChannelDescriptor[Any]], carrier: Carrier, on_message: _OnMessage) -> None:
        """`channels` are the connector's; `on_message` is called with each request and each reply of the app's."""
        self._carrier, self._on_message = carrier, on_message
        self._answering: list[_Answering] = []
        self._asking: list[_Asking] = []
        by_name = {channel.name: channel for channel in channels}
        for channel in by_name.values():
            replies = by_name.get(reply_channel(channel) or "")
            if replies is None:
                continue
            requests_to, replies_to = cast(ZenohRouting, channel.routing), cast(ZenohRouting, replies.routing)
            if channel.direction == "out":
                to_any = attrs.evolve(replies_to, key=f"{replies_to.key}/*", per_client=False)
                self._answering.append(_Answering(to_any, ResponseChannel(requests_to, to_any, carrier)))
            else:
                self._asking.append(_Asking(requests_to, replies_to))

    async def start(self, session: Session) -> None:
        """Join in. Raises `ConnectionLost`."""
        for answering in self._answering:

            def requested(question: Question, to: ResponseChannel = answering.channel) -> None:
                request = to.take(question)
                if request is not None:
                    self._on_message(request)

            await session.answer(answering.channel.key, requested, others_only=True)
        for asking in self._asking:
            channel = RequestChannel(
                asking.requests, session, self._carrier, asking.replies.address, "", self._take_reply
            )
            asking.channel = channel
            await session.watch_matching(channel.key, channel.matching)

    async def serve(self) -> None:
        """Serve: ask again what was not answered. Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            for asking in self._asking:
                if asking.channel is not None:
                    nursery.start_soon(asking.channel.serve)

    def publish(self, envelope: Envelope) -> bool:
        """Ask, or reply to what the app has asked under that correlation id. Return false if it is neither."""
        for answering in self._answering:
            if intersects(answering.replies.address, envelope.topic):
                answering.channel.publish(envelope, _done)
                return True
        for asking in self._asking:
            if asking.channel is not None and intersects(asking.requests.address, envelope.topic):
                metadata = envelope.metadata or Metadata()
                if not metadata.response_topic:
                    own = asking.replies.address.replace("**", "test").replace("*", "test")
                    metadata = replace(metadata, response_topic=own)
                asking.channel.publish(replace(envelope, metadata=metadata), _done)
                return True
        return False

    def _take_reply(self, message: Incoming) -> None:
        assert isinstance(message, Reply)
        asked: Envelope = message.request.envelope
        assert asked.metadata is not None
        self._on_message(replace(message, topic=asked.metadata.response_topic))
        for asking in self._asking:
            if asking.channel is not None:
                asking.channel.acknowledge(message)


def _done(number: int, refusal: str) -> None:
    """Nothing waits for it."""
