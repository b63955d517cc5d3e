"""ChannelWriter and ChannelReader: trio channels over shared memory."""

from __future__ import annotations

import struct
import time
import uuid
from typing import Any

import pytest
import trio
import trio.testing

from taktora_trio import (
    BackPressure,
    CodecError,
    MessageError,
    Metadata,
    PayloadOverflow,
    RawCodec,
)
from taktora_trio.channels.codec import JsonCodec, MsgpackCodec
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.envelope import pack_metadata
from tests.host.rig import open_channel, reader_of, writer_of
from tests.transport.rig import declare, open_domain, open_sending


async def test_they_are_trio_channels(domain: Domain) -> None:
    async with open_channel(domain, int) as (writer, reader):
        assert isinstance(writer, trio.abc.SendChannel)
        assert isinstance(reader, trio.abc.ReceiveChannel)


async def test_messages_come_in_order_with_their_headers(domain: Domain) -> None:
    before, boottime = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    async with open_channel(domain, str) as (writer, reader):
        await writer.send("a")
        await writer.send("b", correlation_id=b"order 7")
        first, second = await reader.receive(), reader.receive_nowait()
    assert [first.value, second.value] == ["a", "b"]
    assert [first.header.sequence_number, second.header.sequence_number] == [1, 2]
    assert before <= first.header.timestamp_ns <= second.header.timestamp_ns <= time.time_ns()
    assert boottime <= first.header.boottime_ns <= second.header.boottime_ns
    assert second.header.boottime_ns <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert [first.header.correlation_id, second.header.correlation_id] == [b"", b"order 7"]
    assert first.topic == "t"


async def test_a_full_channel_refuses_and_waits_and_loses_nothing(domain: Domain) -> None:
    async with open_channel(domain, int, window=4) as (writer, reader), trio.open_nursery() as nursery:
        for number in range(4):
            writer.send_nowait(number)
        with pytest.raises(BackPressure, match=r"4 messages"):
            writer.send_nowait(99)
        assert issubclass(BackPressure, trio.WouldBlock)

        async def send_more() -> None:
            for number in range(4, 50):
                await writer.send(number)

        nursery.start_soon(send_more)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BackPressure):
            writer.send_nowait(99)  # not even when somebody waits already: that would overtake
        with trio.fail_after(5):
            assert [(await reader.receive()).value for _ in range(50)] == list(range(50))
        assert writer.statistics().sent == 50
        assert writer.statistics().waited >= 3


async def test_tasks_that_share_a_writer_take_turns(domain: Domain) -> None:
    async with open_channel(domain, int, window=2) as (writer, reader), trio.open_nursery() as nursery:
        await writer.send(0)
        await writer.send(1)
        for number in range(2, 10):
            nursery.start_soon(writer.send, number)
            await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5):
            assert [(await reader.receive()).value for _ in range(10)] == list(range(10))


async def test_nobody_at_the_other_end(domain: Domain) -> None:
    connector, _ = declare(int, JsonCodec())
    async with open_domain(domain, connector) as node, writer_of(node, connector) as writer:
        for number in range(4):
            writer.send_nowait(number)  # a window of them waits for whoever comes
        with pytest.raises(BackPressure):
            writer.send_nowait(99)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.send, 4)
            await trio.testing.wait_all_tasks_blocked()
            async with reader_of(node, connector) as reader:
                with trio.fail_after(5):
                    assert [(await reader.receive()).value for _ in range(5)] == [0, 1, 2, 3, 4]


async def test_readers_that_come_and_go_under_a_steady_flow_lose_nothing(domain: Domain) -> None:
    connector, _ = declare(int, JsonCodec(), window=8)
    values: list[int] = []
    count = 2000
    async with (
        open_domain(domain, connector) as node,
        writer_of(node, connector) as writer,
        trio.open_nursery() as nursery,
    ):

        async def send_all() -> None:
            for number in range(count):
                await writer.send(number)

        nursery.start_soon(send_all)
        with trio.fail_after(30):
            while len(values) < count:
                async with reader_of(node, connector) as reader:
                    for _ in range(min(37, count - len(values))):
                        values.append((await reader.receive()).value)  # noqa: PERF401 - they count even if it fails
    assert values == list(range(count))


async def test_a_cancelled_send_sends_nothing(domain: Domain) -> None:
    async with open_channel(domain, int, window=1) as (writer, reader):
        await writer.send(1)
        with trio.move_on_after(0.05) as scope:
            await writer.send(2)
        assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            scope.cancel()
            await writer.send(3)
        assert scope.cancelled_caught
        assert reader.receive_nowait().value == 1
        with pytest.raises(trio.WouldBlock):
            reader.receive_nowait()
        await writer.send(4)
        assert reader.receive_nowait().value == 4


async def test_a_cancelled_receive_loses_nothing(domain: Domain) -> None:
    async with open_channel(domain, int) as (writer, reader):
        with trio.move_on_after(0.05) as scope:
            await reader.receive()
        assert scope.cancelled_caught
        await writer.send(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await reader.receive()
        assert scope.cancelled_caught
        assert (await reader.receive()).value == 1


async def test_every_32nd_message_lets_others_run_and_each_notices_a_cancellation(domain: Domain) -> None:
    async with open_channel(domain, int, window=200) as (writer, reader), trio.open_nursery() as nursery:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        nursery.start_soon(count)
        await trio.lowlevel.checkpoint()
        for work in (lambda: writer.send(1), reader.receive):
            turns = 0
            for _ in range(128):
                await work()
            assert 3 <= turns <= 5  # of two tasks in a batch, which comes first is left to chance
        await writer.send(1)
        for work in (lambda: writer.send(1), reader.receive):
            with trio.CancelScope() as scope:
                scope.cancel()
                await work()
            assert scope.cancelled_caught
        assert (await reader.receive()).value == 1
        nursery.cancel_scope.cancel()


async def test_closing_wakes_who_waits(domain: Domain) -> None:
    async with open_channel(domain, int, window=1) as (writer, reader), trio.open_nursery() as nursery:
        await writer.send(1)

        async def wait_for_room() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await writer.send(2)

        async def wait_for_data() -> None:
            values = []
            with pytest.raises(trio.ClosedResourceError):  # noqa: PT012 - a loop ends by it
                async for received in reader:
                    values.append(received.value)  # noqa: PERF401 - a comprehension would lose them
            assert values == [1]

        nursery.start_soon(wait_for_room)
        await trio.testing.wait_all_tasks_blocked()
        await writer.aclose()
        with pytest.raises(trio.ClosedResourceError):
            writer.send_nowait(3)
        with pytest.raises(trio.ClosedResourceError):
            await writer.send(3)
        nursery.start_soon(wait_for_data)
        await trio.testing.wait_all_tasks_blocked()
        await reader.aclose()
    with pytest.raises(trio.ClosedResourceError):
        reader.receive_nowait()


async def test_errors_are_at_the_caller_and_the_channel_goes_on(domain: Domain) -> None:
    async with open_channel(domain, str, max_payload=20) as (writer, reader):
        with pytest.raises(PayloadOverflow, match=r"1002 bytes.* takes 20, 0 and 0"):
            await writer.send("x" * 1000)
        with pytest.raises(PayloadOverflow):
            writer.send_nowait("x" * 1000)
        with pytest.raises(CodecError):
            await writer.send(object())  # type: ignore[arg-type]
        for wrong, is_said in ((b"x" * 65_536, "65536 bytes"), ("text", "a str"), (None, "a NoneType")):
            with pytest.raises(CodecError, match=f"a correlation id is {is_said}: give it as bytes, 65535 at most"):
                await writer.send("x", correlation_id=wrong)  # type: ignore[arg-type]
        for _ in range(20):  # an error must not cost a loan
            with pytest.raises(MessageError, match="leave topic='too/long' out"):
                await writer.send("x", topic="too/long")
        await writer.send("fine")
        assert (await reader.receive()).value == "fine"


METADATA = Metadata(
    content_type="text/plain",
    response_topic="answers/7",
    message_expiry=60,
    user_properties=(("trace", "a"), ("trace", "b")),
)
IDS = [
    b"",
    b"\0",
    bytes(16),
    bytes(32),
    b"ends in zero\0",
    str(uuid.UUID(int=7)).encode(),
    bytes(range(42)),
    bytes(200),
]


async def test_a_correlation_id_comes_back_as_it_was_sent_whatever_its_length(domain: Domain) -> None:
    async with open_channel(domain, bytes, RawCodec(), max_metadata=300) as (writer, reader):
        for number, correlation_id in enumerate(IDS):
            metadata = METADATA if number % 2 else None
            await writer.send(b"sent", correlation_id=correlation_id, metadata=metadata)
            received = await reader.receive()
            assert (received.header.correlation_id, received.metadata) == (correlation_id, metadata)
            assert received.value == b"sent"
            async with writer.loan(6, correlation_id=correlation_id) as view:
                view[:] = b"loaned"
            async with reader.borrow() as borrowed:
                assert (bytes(borrowed.value), borrowed.header.correlation_id) == (b"loaned", correlation_id)


async def test_an_id_without_room_is_an_error_at_the_caller(domain: Domain) -> None:
    async with open_channel(domain, bytes, RawCodec(), window=1, max_metadata=1) as (writer, reader):
        for _ in range(3):  # none may cost a loan
            with pytest.raises(PayloadOverflow, match=r"metadata of 2 .*id of 44 .*raise its .* max_metadata"):
                await writer.send(b"x", correlation_id=bytes(44))
            with pytest.raises(PayloadOverflow):
                async with writer.loan(1, correlation_id=bytes(44)):
                    pass
        await writer.send(b"x", correlation_id=bytes(43))
        with pytest.raises(PayloadOverflow):  # though there is no room in the window either
            writer.send_nowait(b"x", correlation_id=bytes(44))
        assert reader.receive_nowait().header.correlation_id == bytes(43)


async def test_metadata_comes_along_where_there_is_room_and_then_only_with_the_message_it_is_of(domain: Domain) -> None:
    async with open_channel(domain, bytes, RawCodec(), max_metadata=200) as (writer, reader):
        await writer.send(b"first", metadata=METADATA)
        writer.send_nowait(b"second", correlation_id=b"id")
        async with writer.loan(5, metadata=Metadata(content_type="x")) as view:
            view[:] = b"third"
        writer.send_nowait(b"fourth", metadata=METADATA)
        assert (await reader.receive()).metadata == METADATA
        assert reader.receive_nowait().metadata is None
        async with reader.borrow() as received:
            assert (bytes(received.value), received.metadata) == (b"third", Metadata(content_type="x"))
        fourth = reader.receive_nowait()
        assert (fourth.value, fourth.metadata) == (b"fourth", METADATA)


@pytest.mark.parametrize("room", [1, len(pack_metadata(METADATA)) - 1])
async def test_metadata_without_room_is_an_error_at_the_caller(domain: Domain, room: int) -> None:
    async with open_channel(domain, bytes, RawCodec(), window=2, max_metadata=room) as (writer, reader):
        for _ in range(3):  # with room in the window, and a loan for each: none is lost
            with pytest.raises(PayloadOverflow, match=rf"takes 100, 0 and {room}: .* max_metadata"):
                await writer.send(b"x", metadata=METADATA)
            with pytest.raises(PayloadOverflow):
                writer.send_nowait(b"x", metadata=METADATA)
            with pytest.raises(PayloadOverflow):
                async with writer.loan(1, metadata=METADATA):
                    pass
        with pytest.raises(CodecError, match="metadata can't be encoded"):
            await writer.send(b"x", metadata=Metadata(content_type=5))  # type: ignore[arg-type]
        await writer.send(b"fine")
        assert (await reader.receive()).value == b"fine"
        with pytest.raises(trio.WouldBlock):
            reader.receive_nowait()


async def test_an_app_s_mistakes_are_typed_errors_whatever_they_are(domain: Domain) -> None:
    async with open_channel(domain, bytes, RawCodec(), max_metadata=100) as (app, _):
        wrong: list[Any] = [{}, "x", Metadata(5), Metadata(response_topic=None), Metadata(user_properties=(("a",),))]  # type: ignore[arg-type]
        for metadata in wrong:
            with pytest.raises(CodecError, match="metadata can't be encoded"):
                await app.send(b"x", metadata=metadata)
        lengths: list[Any] = [-1, 1.5, "1", None]
        for length in lengths:
            with pytest.raises(MessageError, match="give the payload's length"):
                async with app.loan(length):
                    pass
        assert app.statistics().sent == 0


async def test_what_cannot_be_decoded_is_an_error_and_the_next_one_arrives(domain: Domain) -> None:
    connector, spec = declare(int, JsonCodec(), window=8)
    async with (
        open_domain(domain, connector) as node,
        open_sending(node, spec) as writer,
        reader_of(node, connector) as reader,
    ):
        for payload in (b"1", b"{", b"", b'"text"', b"2"):
            writer.send_nowait(payload)
        assert (await reader.receive()).value == 1
        for _ in range(3):
            with pytest.raises(CodecError) as caught:
                await reader.receive()
            assert caught.value.topic == "t"
        assert (await reader.receive()).value == 2


async def test_zero_copy_both_ways(domain: Domain) -> None:
    size = 1_000_000
    async with open_channel(domain, bytes, RawCodec(), max_payload=size, window=2) as (writer, reader):
        for number in range(5):
            async with writer.loan(size, correlation_id=b"frame") as view:
                assert len(view) == size
                view[:] = bytes([number]) * size
            with pytest.raises(ValueError, match="released"):
                view[0]
            async with reader.borrow() as received:
                assert received.value.readonly
                assert received.value[0] == received.value[size - 1] == number
                assert received.header.correlation_id.startswith(b"frame")
            with pytest.raises(ValueError, match="released"):
                received.value[0]


async def test_a_loan_under_back_pressure_keeps_its_payload(domain: Domain) -> None:
    async with open_channel(domain, bytes, RawCodec(), window=1) as (writer, reader), trio.open_nursery() as nursery:
        await writer.send(b"first")

        async def lend() -> None:
            async with writer.loan(6) as view:
                view[:] = b"second"

        nursery.start_soon(lend)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5):
            assert [(await reader.receive()).value for _ in range(2)] == [b"first", b"second"]


async def test_a_loan_that_fails_is_given_back(domain: Domain) -> None:
    async with open_channel(domain, bytes, RawCodec()) as (writer, reader):
        for _ in range(20):
            with pytest.raises(LookupError):
                async with writer.loan(3):
                    raise LookupError
        with pytest.raises(PayloadOverflow):
            async with writer.loan(101):
                pass
        for _ in range(20):
            with pytest.raises(BufferError):
                async with writer.loan(3) as view:
                    kept = struct.iter_unpack("B", view)  # as an array of numpy does
            del kept
        with pytest.raises(trio.WouldBlock):
            reader.receive_nowait()
        await writer.send(b"fine")
        assert (await reader.receive()).value == b"fine"


@pytest.mark.parametrize("codec", [JsonCodec(), MsgpackCodec()])
async def test_codecs_over_shared_memory(domain: Domain, codec: JsonCodec | MsgpackCodec) -> None:
    async with open_channel(domain, dict[str, list[float]], codec) as (writer, reader):
        await writer.send({"a": [1.5, 2.5]})
        assert (await reader.receive()).value == {"a": [1.5, 2.5]}
