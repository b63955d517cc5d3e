"""What a writer adds to the metadata of a message by itself."""

from __future__ import annotations

import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from taktora_trio import ChannelWriter, CodecError, JsonCodec, Metadata, PayloadOverflow, RawCodec, ZstdCodec
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


# Traces

tracer = TracerProvider().get_tracer("test")


def parent_of(context: SpanContext) -> tuple[str, str]:
    return "traceparent", f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


async def test_a_message_carries_the_trace_of_the_span_that_it_is_sent_in(domain: Domain) -> None:
    async with open_channel(domain, bytes, RawCodec(), tracing=True, window=8) as (writer, reader):
        await writer.send(b"outside")
        with tracer.start_as_current_span("a") as a:
            await writer.send(b"a")
            writer.send_nowait(
                b"b", metadata=Metadata("text/plain", user_properties=(("traceparent", "old"), ("x", "y")))
            )
            with tracer.start_as_current_span("b") as b:
                async with writer.loan(1) as view:
                    view[:] = b"c"
        await writer.send(b"passed on", metadata=Metadata(user_properties=(parent_of(a.get_span_context()),)))
        received = [await reader.receive() for _ in range(5)]
    in_a, in_b = parent_of(a.get_span_context()), parent_of(b.get_span_context())
    assert [message.metadata for message in received] == [
        None,
        Metadata(user_properties=(in_a,)),
        Metadata("text/plain", user_properties=(("x", "y"), in_a)),
        Metadata(user_properties=(in_b,)),
        Metadata(user_properties=(in_a,)),
    ]


async def test_a_trace_that_has_no_room_is_left_out_and_the_message_is_sent(
    domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    state = TraceState([("vendor", "x" * 200)])
    span = trace.NonRecordingSpan(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1), trace_state=state))
    with trace.use_span(span):
        async with open_channel(domain, str, tracing=True, window=8) as (writer, reader):
            for used in (100, 400, 600, 600):
                await writer.send("", metadata=Metadata(content_type="x" * used))
            await writer.send("", correlation_id=b"x" * 650)
            received = [await reader.receive() for _ in range(5)]
    names = [[name for name, _ in message.metadata.user_properties] for message in received if message.metadata]
    assert names == [["traceparent", "tracestate"], ["traceparent"], [], []]
    assert received[4].metadata is None
    assert sum("no room for its trace" in record.getMessage() for record in caplog.records) == 1


async def test_a_message_that_waits_for_room_carries_the_trace_of_its_sender(domain: Domain) -> None:
    async with open_channel(domain, str, tracing=True, window=4) as (writer, reader), trio.open_nursery() as nursery:

        async def send_in_a_span(name: str) -> None:
            with tracer.start_as_current_span(name) as span:
                parents[name] = parent_of(span.get_span_context())
                await writer.send(name)

        parents: dict[str, tuple[str, str]] = {}
        for number in range(4):
            await send_in_a_span(str(number))
        nursery.start_soon(send_in_a_span, "late")
        nursery.start_soon(send_in_a_span, "later")
        for _ in range(6):
            message = await reader.receive()
            assert message.metadata == Metadata(user_properties=(parents[message.value],))


async def test_nothing_is_between_a_writer_and_its_port_where_nothing_is_added(domain: Domain) -> None:
    async with open_channel(domain, str) as (writer, _):
        assert isinstance(writer, ChannelWriter)
        assert (writer._send, writer._lend) == (writer._port.send, writer._port.loan)
