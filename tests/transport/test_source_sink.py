"""The gateway's ends of channels: a source acknowledges when it is told, a sink leaves out what has no room."""

from __future__ import annotations

import msgspec
import pytest
import trio
import trio.testing

from taktora_trio import BackPressure, CodecError, Envelope, JsonCodec, Metadata, RawCodec
from taktora_trio.transport.deliveries import Deliveries, identity_of
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.sink import PayloadSink, open_sink
from taktora_trio.transport.source import PayloadSource
from tests.transport.rig import declare, open_domain, open_half, open_publisher, open_sending, open_taking

METADATA = Metadata(content_type="text/plain", user_properties=(("trace", "a"),))


async def _next(source: PayloadSource) -> Envelope:
    while True:
        try:
            return source.receive_nowait()
        except trio.WouldBlock:
            await source.wait()


@pytest.mark.parametrize("acknowledged", [0, 1, 3, 6])
async def test_a_reader_goes_on_where_the_one_before_has_stopped(domain: Domain, acknowledged: int) -> None:
    connector, spec = declare(int, JsonCodec(), window=8)
    async with open_domain(domain, connector) as node, open_publisher(node, spec) as writer:
        async with open_taking(node, spec, "t") as source:
            for number in range(6):
                assert writer.send(b"%d" % number)
            taken = [source.receive_nowait() for _ in range(6)]
            if acknowledged:
                source.acknowledge(taken[acknowledged - 1].header)
        assert writer.send(b"6")  # while nobody is there
        async with open_taking(node, spec, "t") as source:
            expected = [b"%d" % number for number in range(acknowledged, 7)]
            assert [source.receive_nowait().payload for _ in expected] == expected
            with pytest.raises(trio.WouldBlock):
                source.receive_nowait()


@pytest.mark.parametrize(("window", "woken_at"), [(8, 4), (32, 16), (64, 32), (256, 128)])
async def test_a_writer_is_woken_while_its_reader_still_has_some(domain: Domain, window: int, woken_at: int) -> None:
    connector, spec = declare(int, JsonCodec(), window=window)
    async with (
        open_domain(domain, connector) as node,
        open_publisher(node, spec) as writer,
        open_taking(node, spec, "t") as source,
        trio.open_nursery() as nursery,
    ):
        for number in range(window):
            assert writer.send(b"%d" % number)
        assert not writer.send(b"no room")
        taken = [source.receive_nowait() for _ in range(window)]
        writer.space.clear()
        woken = trio.Event()

        async def wait() -> None:
            await writer.space.wait()
            woken.set()

        nursery.start_soon(wait)
        for envelope in taken[: woken_at - 1]:
            source.acknowledge(envelope.header)
        await trio.testing.wait_all_tasks_blocked()
        assert not woken.is_set()
        source.acknowledge(taken[woken_at - 1].header)
        await woken.wait()


async def send(sink: PayloadSink, payload: bytes) -> None:
    while True:
        try:
            sink.send_nowait(payload)
            return
        except BackPressure:
            await sink._port.space.wait()
            sink._port.space.clear()


async def test_what_is_not_acknowledged_takes_up_the_window(domain: Domain) -> None:
    connector, spec = declare(int, JsonCodec(), window=3)
    async with (
        open_domain(domain, connector) as node,
        open_sending(node, spec) as sink,
        open_taking(node, spec, "t") as source,
        trio.open_nursery() as nursery,
    ):
        for number in range(3):
            sink.send_nowait(b"%d" % number)
        taken = [source.receive_nowait() for _ in range(3)]
        nursery.start_soon(send, sink, b"3")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            source.receive_nowait()
        source.acknowledge(taken[0].header)
        with trio.fail_after(5):
            assert (await _next(source)).payload == b"3"


async def test_an_inbound_id_for_which_a_channel_has_no_room_is_left_out_and_said(
    domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    connector, spec = declare(bytes, RawCodec())
    async with (
        open_domain(domain, connector) as node,
        open_sending(node, spec) as sink,
        open_taking(node, spec, "t") as source,
    ):
        for correlation_id in (bytes(42), bytes(43), bytes(44)):
            sink.send_nowait(b"x", correlation_id=correlation_id)
        assert [source.receive_nowait().header.correlation_id for _ in range(3)] == [bytes(42), b"", b""]
    assert ["id of 43 bytes was left out" in record.getMessage() for record in caplog.records] == [True]


async def test_a_sink_finds_why_the_app_has_given_a_message_up(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec(), window=4)
    spec = msgspec.structs.replace(spec, counts_deliveries=True)
    async with open_domain(domain, connector) as node, open_sending(node, spec) as sink:
        numbers = [sink.send_nowait(b"%d" % number) for number in range(3)]
        deliveries = Deliveries(node, spec.name, spec.window)
        deliveries.resume(0, 0)
        for number in numbers:
            deliveries.handing_over(number, identity_of(b"x"))
        assert not sink.has_given_up
        deliveries.again(2)
        deliveries.bury(2, "it kills")
        assert sink.has_given_up
        assert [sink.given_up(number) for number in numbers] == [None, ("it kills", 2), None]
        deliveries.close()


async def test_the_gateway_says_whether_a_message_was_retained(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec())
    async with (
        open_domain(domain, connector) as node,
        open_sending(node, spec) as sink,
        open_taking(node, spec, "t") as source,
    ):
        sink.send_nowait(b"x", retained=True)
        sink.send_nowait(b"x")
        sink.send_nowait(b"x", retained=True)
        assert [source.receive_nowait().header.retained for _ in range(3)] == [True, False, True]


async def test_the_gateway_leaves_out_what_a_channel_wants_none_of(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec())
    async with (
        open_domain(domain, connector) as node,
        open_sending(node, spec) as sink,
        open_taking(node, spec, "t") as source,
    ):
        sink.send_nowait(b"x", metadata=METADATA)
        assert source.receive_nowait().metadata is None


async def test_a_sink_refuses_what_cannot_be_encoded_and_sends_the_next(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec(), max_metadata=100)
    async with (
        open_domain(domain, connector) as node,
        open_sending(node, spec) as sink,
        open_taking(node, spec, "t") as source,
    ):
        for _ in range(20):  # none costs a loan
            with pytest.raises(CodecError, match="topic can't be encoded"):
                sink.send_nowait(b"x", topic="\ud800")
            with pytest.raises(CodecError, match="metadata can't be encoded"):
                sink.send_nowait(b"x", metadata=Metadata(content_type=5))  # type: ignore[arg-type]
        sink.send_nowait(b"fine")
        assert source.receive_nowait().payload == b"fine"


async def test_a_sink_waits_for_room(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec(), window=1)
    async with (
        open_domain(domain, connector) as node,
        open_sending(node, spec) as sink,
        open_taking(node, spec, "t") as source,
        trio.open_nursery() as nursery,
    ):

        async def send_all() -> None:
            for number in range(100):
                await send(sink, b"%d" % number)

        nursery.start_soon(send_all)
        with trio.fail_after(5):
            for number in range(100):
                taken = await _next(source)
                assert taken.payload == b"%d" % number
                source.acknowledge(taken.header)


async def test_a_sink_keeps_a_part_of_the_metadata_where_there_is_room_for_that_alone(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec(), max_metadata=100)

    def keep(metadata: Metadata) -> Metadata | None:
        return Metadata(content_type=metadata.content_type) if metadata.content_type else None

    async with (
        open_domain(domain, connector) as node,
        open_half(node, spec, "app") as trunk,
        open_taking(node, spec, "t") as source,
    ):
        with open_sink(trunk, spec.name, keep=keep) as sink:
            sink.send_nowait(b"x", metadata=Metadata("text/plain", response_topic="x" * 1000), correlation_id=bytes(43))
            sink.send_nowait(b"x", metadata=Metadata(response_topic="x" * 1000))
            first, second = source.receive_nowait(), source.receive_nowait()
    assert (first.metadata, first.header.correlation_id) == (Metadata("text/plain"), b"")
    assert second.metadata is None
