"""ChannelWriter and ChannelReader: trio channels over shared memory."""

from __future__ import annotations

import contextlib
import inspect
import sys
import time
import uuid
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
import trio
import trio.testing

from taktora_trio import (
    BackPressure,
    ChannelWriter,
    CodecError,
    ConfigError,
    MessageError,
    Metadata,
    MqttRouting,
    PayloadOverflow,
    RawCodec,
    ServiceMismatch,
    TransportError,
)
from taktora_trio.channels.codec import JsonCodec, MsgpackCodec
from taktora_trio.transport.cursor import DONE, SENT
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.envelope import HEADER, pack_metadata
from taktora_trio.transport.node import open_node
from taktora_trio.transport.ports import EnvelopePublisher, open_envelope_publisher
from taktora_trio.transport.reader import open_reader
from taktora_trio.transport.services import open_services, open_subscriber
from taktora_trio.transport.writer import open_writer
from tests.transport.rig import declare, open_channel, open_domain


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
    connector, spec = declare(int, JsonCodec())
    async with open_domain(domain, connector) as node, open_writer(node, spec, int, JsonCodec()) as writer:
        for number in range(4):
            writer.send_nowait(number)  # a window of them waits for whoever comes
        with pytest.raises(BackPressure):
            writer.send_nowait(99)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.send, 4)
            await trio.testing.wait_all_tasks_blocked()
            async with open_reader(node, spec, int, JsonCodec(), "t") as reader:
                writer.find_reader()
                with trio.fail_after(5):
                    assert [(await reader.receive()).value for _ in range(5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("acknowledged", [0, 1, 3, 6])
async def test_a_reader_goes_on_where_the_one_before_has_stopped(domain: Domain, acknowledged: int) -> None:
    connector, spec = declare(int, JsonCodec(), window=8)
    async with open_domain(domain, connector) as node, open_writer(node, spec, int, JsonCodec()) as writer:
        async with open_reader(node, spec, int, JsonCodec(), "t", acknowledge=False) as reader:
            for number in range(6):
                writer.send_nowait(number)
            taken = [reader.receive_nowait() for _ in range(6)]
            if acknowledged:
                reader.acknowledge(taken[acknowledged - 1].header)
        writer.send_nowait(6)  # while nobody is there
        async with open_reader(node, spec, int, JsonCodec(), "t", acknowledge=False) as reader:
            writer.find_reader()
            expected = list(range(acknowledged, 7))
            assert [reader.receive_nowait().value for _ in expected] == expected
            with pytest.raises(trio.WouldBlock):
                reader.receive_nowait()


async def test_what_is_not_acknowledged_takes_up_the_window(domain: Domain) -> None:
    connector, spec = declare(int, JsonCodec(), window=3)
    async with (
        open_domain(domain, connector) as node,
        open_writer(node, spec, int, JsonCodec()) as writer,
        open_reader(node, spec, int, JsonCodec(), "t", acknowledge=False) as reader,
        trio.open_nursery() as nursery,
    ):
        for number in range(3):
            writer.send_nowait(number)
        taken = [reader.receive_nowait() for _ in range(3)]
        nursery.start_soon(writer.send, 3)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            reader.receive_nowait()
        reader.acknowledge(taken[0].header)
        with trio.fail_after(5):
            assert (await reader.receive()).value == 3


async def test_readers_that_come_and_go_under_a_steady_flow_lose_nothing(domain: Domain) -> None:
    connector, spec = declare(int, JsonCodec(), window=8)
    values: list[int] = []
    count = 2000
    async with (
        open_domain(domain, connector) as node,
        open_writer(node, spec, int, JsonCodec()) as writer,
        trio.open_nursery() as nursery,
    ):

        async def send_all() -> None:
            for number in range(count):
                await writer.send(number)

        nursery.start_soon(send_all)
        with trio.fail_after(30):
            while len(values) < count:
                async with open_reader(node, spec, int, JsonCodec(), "t") as reader:
                    writer.find_reader()
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
            with pytest.raises(PayloadOverflow):
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


async def test_an_inbound_id_for_which_a_channel_has_no_room_is_left_out_and_said(
    domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_channel(domain, bytes, RawCodec()) as (writer, reader):
        for correlation_id in (bytes(42), bytes(43), bytes(44)):
            await writer.send(b"x", correlation_id=correlation_id)
        assert [(await reader.receive()).header.correlation_id for _ in range(3)] == [bytes(42), b"", b""]
    assert ["id of 43 bytes was left out" in record.getMessage() for record in caplog.records] == [True]


async def test_the_gateway_says_whether_a_message_was_retained_and_an_app_does_not(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec())
    async with open_domain(domain, connector) as node, open_envelope_publisher(node, spec) as port:
        app = ChannelWriter(port, RawCodec().encoder(bytes), lambda: None, MqttRouting("t"))
        with pytest.raises(ConfigError, match="is said by its routing"):
            await app.send(b"x", retained=True)
        with pytest.raises(ConfigError, match="is said by its routing"):
            app.send_nowait(b"x", retained=True)
    async with open_channel(domain, bytes, RawCodec()) as (gateway, reader):
        await gateway.send(b"x", retained=True)
        gateway.send_nowait(b"x")
        gateway.send_nowait(b"x", retained=True)
        assert [(await reader.receive()).retained for _ in range(3)] == [True, False, True]


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
    connector, spec = declare(bytes, RawCodec(), max_metadata=100)
    async with open_domain(domain, connector) as node, open_envelope_publisher(node, spec) as port:
        app = ChannelWriter(port, RawCodec().encoder(bytes), lambda: None, MqttRouting("t"))
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


async def test_the_gateway_leaves_out_what_a_channel_wants_none_of(domain: Domain) -> None:
    async with open_channel(domain, bytes, RawCodec()) as (writer, reader):
        await writer.send(b"x", metadata=METADATA)
        assert (await reader.receive()).metadata is None


async def test_what_cannot_be_decoded_is_an_error_and_the_next_one_arrives(domain: Domain) -> None:
    connector, spec = declare(int, JsonCodec(), window=8)
    async with (
        open_domain(domain, connector) as node,
        open_writer(node, spec, bytes, RawCodec()) as writer,
        open_reader(node, spec, int, JsonCodec(), "t") as reader,
    ):
        for payload in (b"1", b"{", b"", b'"text"', b"2"):
            await writer.send(payload)
        assert (await reader.receive()).value == 1
        for _ in range(3):
            with pytest.raises(CodecError) as caught:
                await reader.receive()
            assert caught.value.topic == "t"
        assert (await reader.receive()).value == 2


@pytest.mark.parametrize("lengths", [(101, 0, 0), (2**32 - 1, 0, 0), (0, 1, 0), (100, 2**15, 0), (0, 0, 1)])
async def test_a_length_beyond_the_buffer_is_never_followed(domain: Domain, lengths: tuple[int, int, int]) -> None:
    connector, spec = declare(bytes, RawCodec())
    async with (
        open_domain(domain, connector) as node,
        open_envelope_publisher(node, spec) as port,
        open_reader(node, spec, bytes, RawCodec(), "t") as reader,
    ):
        loan = port.loan(5)
        HEADER.pack_into(loan.buffer, 0, 1, 2, 3, *lengths, 0, 0, b"")
        assert loan.sample.assume_init().send() == 1
        with pytest.raises(TransportError, match="claims"):
            reader.receive_nowait()
        assert port.send(b"fine")
        assert reader.receive_nowait().value == b"fine"


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
        with pytest.raises(trio.WouldBlock):
            reader.receive_nowait()
        await writer.send(b"fine")
        assert (await reader.receive()).value == b"fine"


@pytest.mark.parametrize("codec", [JsonCodec(), MsgpackCodec()])
async def test_codecs_over_shared_memory(domain: Domain, codec: JsonCodec | MsgpackCodec) -> None:
    async with open_channel(domain, dict[str, list[float]], codec) as (writer, reader):
        await writer.send({"a": [1.5, 2.5]})
        assert (await reader.receive()).value == {"a": [1.5, 2.5]}


async def test_a_peer_with_another_format_is_refused_with_both_descriptions(domain: Domain) -> None:
    connector, spec = declare(int, JsonCodec(), max_payload=100)
    async with open_domain(domain, connector) as node:
        for codec, max_payload, window, metadata in (
            (JsonCodec(), 200, 4, 0),
            (MsgpackCodec(), 100, 4, 0),
            (JsonCodec(), 100, 8, 0),
            (JsonCodec(), 100, 4, 1),
        ):
            _, other = declare(int, codec, max_payload=max_payload, window=window, max_metadata=metadata)
            for opened in (open_writer(node, other, int, codec), open_reader(node, other, int, codec, "t")):
                with pytest.raises(ServiceMismatch) as caught:
                    async with opened:
                        pass
                assert spec.description in str(caught.value)
                assert other.description in str(caught.value)
        async with open_writer(node, spec, int, JsonCodec()):
            pass


async def test_a_channel_has_one_writer(domain: Domain) -> None:
    connector, spec = declare(int, JsonCodec())
    async with open_domain(domain, connector) as node, open_writer(node, spec, int, JsonCodec()):
        with pytest.raises(TransportError, match="taken"):
            async with open_writer(node, spec, int, JsonCodec()):
                pass


async def test_sequence_numbers_go_on_when_a_writer_is_opened_again(domain: Domain) -> None:
    connector, spec = declare(int, JsonCodec())
    numbers = []
    async with open_domain(domain, connector) as node, open_reader(node, spec, int, JsonCodec(), "t") as reader:
        for _ in range(3):
            async with open_writer(node, spec, int, JsonCodec()) as writer:
                for value in range(2):
                    await writer.send(value)
                    numbers.append((await reader.receive()).header.sequence_number)
    assert numbers == [1, 2, 3, 4, 5, 6]


async def test_signals_still_reach_trio(domain: Domain) -> None:
    """By default iceoryx2 would take SIGINT and SIGTERM for itself."""

    def caught() -> int:
        with open("/proc/self/status") as status:  # noqa: PTH123 - a moment, in a test
            return int(next(line for line in status if line.startswith("SigCgt")).split()[1], 16)

    before = caught()
    async with open_channel(domain, int) as (writer, reader):
        await writer.send(1)
        await reader.receive()
        assert caught() == before


async def test_a_service_that_nobody_created(domain: Domain) -> None:
    _, spec = declare(int, JsonCodec())
    with domain.hold("owner"):
        async with open_node(domain, "test") as node, open_services(node, []):
            with pytest.raises(TransportError, match=r"DoesNotExist.*owner of the domain has not created it"):
                async with open_writer(node, spec, int, JsonCodec()):
                    pass


# A writer that is killed as it sends


class Killed(BaseException):
    """Stands for SIGKILL: nothing that follows in the writer is run."""


_LINES, _START = inspect.getsourcelines(EnvelopePublisher._send)


@contextlib.contextmanager
def killed_before(line: int) -> Iterator[None]:
    """What sends in the block is cut off right before that line of `_send`, if it comes there."""

    def watch(frame: FrameType, event: str, arg: object) -> Any:
        if event == "line" and frame.f_lineno == line:
            raise Killed
        return watch

    before = sys.gettrace()
    sys.settrace(lambda frame, event, arg: watch if frame.f_code is EnvelopePublisher._send.__code__ else None)
    try:
        yield
    except Killed:
        pass
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("line", range(_START, _START + len(_LINES)))
async def test_no_number_is_used_twice_wherever_a_writer_is_killed(
    line: int, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    connector, spec = declare(str, JsonCodec())
    numbers = dict[str, int]()
    async with open_domain(domain, connector) as node, open_reader(node, spec, str, JsonCodec(), "t") as reader:
        for life in range(4):
            async with open_writer(node, spec, str, JsonCodec()) as writer:
                assert writer._port.waiting == 0
                if life != 1:  # one is killed before it has sent anything
                    await writer.send(f"sent {life}")
                with killed_before(line):
                    writer.send_nowait(f"killed {life}")
                with contextlib.suppress(trio.WouldBlock):
                    while True:
                        received = reader.receive_nowait()
                        assert received.value not in numbers
                        numbers[received.value] = received.header.sequence_number
                assert not reader.is_behind
    assert {"sent 0", "sent 2", "sent 3"} <= set(numbers)
    assert list(numbers.values()) == sorted(set(numbers.values()))
    assert "can't be" not in caplog.text


# A peer that writes nonsense where both count


IMPOSSIBLE = [2**62 + 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("word", IMPOSSIBLE)
async def test_a_writer_does_not_believe_that_more_was_acknowledged_than_was_sent(
    word: int, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    connector, spec = declare(str, JsonCodec())
    async with open_domain(domain, connector) as node, open_writer(node, spec, str, JsonCodec()) as writer:
        cursor = writer._port._counters
        writer.send_nowait("0")
        cursor[DONE] = word
        for number in range(1, 4):
            writer.send_nowait(str(number))
        with pytest.raises(BackPressure):  # else what nobody has read would fall out of the history
            writer.send_nowait("4")
        async with open_reader(node, spec, str, JsonCodec(), "t") as reader:
            writer.find_reader()
            assert [(await reader.receive()).value for _ in range(4)] == ["0", "1", "2", "3"]
            writer.send_nowait("4")
            assert (await reader.receive()).value == "4"
            assert writer._port.waiting == 0
    assert sum("which can't be" in record.getMessage() for record in caplog.records) == 2  # once each end


@pytest.mark.parametrize("word", IMPOSSIBLE)
async def test_a_writer_that_comes_after_one_that_counted_wrongly_goes_on(word: int, domain: Domain) -> None:
    connector, spec = declare(str, JsonCodec())
    async with open_domain(domain, connector) as node:
        async with open_reader(node, spec, str, JsonCodec(), "t") as reader:
            async with open_writer(node, spec, str, JsonCodec()) as writer:
                writer._port._sequence_number, writer._port._room_until = word - 1, word
                writer.send_nowait("jump")
                assert (await reader.receive()).value == "jump"
                assert not reader.is_behind
            async with open_writer(node, spec, str, JsonCodec()) as writer:
                for turn in range(3):
                    for number in range(4):
                        writer.send_nowait(f"{turn}.{number}")
                    with pytest.raises(BackPressure):
                        writer.send_nowait("too many")
                    assert [(await reader.receive()).value for _ in range(4)] == [f"{turn}.{n}" for n in range(4)]
                writer.send_nowait("last")
                assert reader.is_behind
        async with open_reader(node, spec, str, JsonCodec(), "t") as reader:
            with pytest.raises(trio.WouldBlock):
                reader.receive_nowait()


async def test_a_reader_opens_although_the_word_changes_all_the_time(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector, spec = declare(str, JsonCodec())
    async with open_domain(domain, connector) as node, open_writer(node, spec, str, JsonCodec()) as writer:
        opened = 0

        async def open_and_count(*arguments: Any) -> Any:
            nonlocal opened
            writer._port._counters[SENT] += 1
            opened += 1
            assert opened < 100, "it does not end, and has no checkpoint"
            return await open_subscriber(*arguments)

        writer.send_nowait("here")
        monkeypatch.setattr("taktora_trio.transport.ports.open_subscriber", open_and_count)
        async with open_reader(node, spec, str, JsonCodec(), "t") as reader:
            writer.find_reader()
            assert (await reader.receive()).value == "here"
