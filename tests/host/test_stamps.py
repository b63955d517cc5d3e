"""What a writer adds to the metadata of a message by itself."""

from __future__ import annotations

import pytest

from taktora_trio import CodecError, JsonCodec, Metadata, PayloadOverflow, RawCodec, ZstdCodec
from taktora_trio.channels.zstd import MAGIC
from taktora_trio.transport.domain import Domain
from tests.host.rig import open_channel

LARGE = "large " * 100
SAYS = ("content-encoding", "zstd")


async def test_a_compressed_payload_says_so_where_the_channel_carries_metadata(domain: Domain) -> None:
    codec = ZstdCodec(JsonCodec(), threshold=100)
    async with open_channel(domain, str, codec, max_payload=1000, max_metadata=80, window=8) as (writer, reader):
        await writer.send("small")
        await writer.send("small", metadata=Metadata(content_type="a"))
        writer.send_nowait(LARGE)
        await writer.send(LARGE, metadata=Metadata("a", "b", 7, (("c", "d"), ("content-encoding", "gzip"))))
        received = [await reader.receive() for _ in range(4)]
    assert [message.value for message in received] == ["small", "small", LARGE, LARGE]
    assert [message.metadata for message in received] == [
        None,
        Metadata(content_type="a"),
        Metadata(user_properties=(SAYS,)),
        Metadata("a", "b", 7, (("c", "d"), SAYS)),
    ]


async def test_without_room_for_metadata_a_payload_is_compressed_all_the_same(domain: Domain) -> None:
    async with open_channel(domain, str, ZstdCodec(threshold=100), max_payload=1000) as (writer, reader):
        await writer.send(LARGE)
        assert (await reader.receive()).metadata is None
        await writer.send(LARGE)
        async with reader.borrow() as received:
            assert received.value[:4] == MAGIC


async def test_metadata_that_has_no_room_beside_it_is_refused(domain: Domain) -> None:
    async with open_channel(domain, str, ZstdCodec(threshold=100), max_payload=1000, max_metadata=30) as (writer, _):
        await writer.send("small", metadata=Metadata(content_type="a" * 20))
        with pytest.raises(PayloadOverflow, match="max_metadata"):
            await writer.send(LARGE, metadata=Metadata(content_type="a" * 20))


async def test_what_is_lent_is_sent_as_it_is_written(domain: Domain) -> None:
    codec = ZstdCodec(RawCodec(), threshold=100)
    async with open_channel(domain, bytes, codec, max_payload=1000, max_metadata=80) as (writer, reader):
        async with writer.loan(1000) as view:
            view[:] = bytes(1000)
        async with reader.borrow() as received:
            assert (bytes(received.value), received.metadata) == (bytes(1000), None)
        async with writer.loan(4) as view:
            view[:] = MAGIC
        with pytest.raises(CodecError, match="not a zstd frame"):
            await reader.receive()
