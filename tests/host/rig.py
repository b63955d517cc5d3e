"""A channel in one process: its two ends as an app has them, with no gateway and no broker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import attrs

from taktora_trio import ChannelReader, ChannelWriter, Connector, JsonCodec, PayloadCodec
from taktora_trio.connectors.plan import channel_spec
from taktora_trio.host.reader import OnError, open_reader
from taktora_trio.host.writer import open_writer
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.ports import Node
from tests.transport.rig import declare, open_domain, open_half, reading, writing

T = TypeVar("T")


@contextlib.asynccontextmanager
async def writer_of(node: Node, connector: Connector) -> AsyncIterator[ChannelWriter[Any]]:
    """Open the writer of its first channel, in a half of its own, as after a start."""
    channel = connector.channels[0]
    async with (
        open_half(node, connector, writing(channel_spec(connector, channel))) as trunk,
        open_writer(trunk, connector, channel) as writer,
    ):
        yield writer


@contextlib.asynccontextmanager
async def reader_of(node: Node, connector: Connector, on_error: OnError = "raise") -> AsyncIterator[ChannelReader[Any]]:
    """Open the reader of its first channel, in a half of its own, as after a start."""
    channel = connector.channels[0]
    async with (
        open_half(node, connector, reading(channel_spec(connector, channel))) as trunk,
        open_reader(trunk, connector, channel, on_error=on_error) as reader,
    ):
        yield reader


@contextlib.asynccontextmanager
async def open_channel(
    domain: Domain,
    message_type: type[T],
    codec: PayloadCodec | None = None,
    *,
    max_payload: int = 100,
    window: int = 4,
    max_metadata: int = 0,
    on_error: OnError = "raise",
    tracing: bool = False,
) -> AsyncIterator[tuple[ChannelWriter[T], ChannelReader[T]]]:
    codec = codec or JsonCodec()
    connector, _ = declare(message_type, codec, max_payload=max_payload, window=window, max_metadata=max_metadata)
    connector = attrs.evolve(connector, tracing=tracing)
    async with (
        open_domain(domain, connector) as node,
        writer_of(node, connector) as writer,
        reader_of(node, connector, on_error) as reader,
    ):
        yield writer, reader
