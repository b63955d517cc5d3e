"""The ports below writers and readers: whatever an end or a peer does to them, nothing is counted wrongly."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trio
import trio.testing

from taktora_trio import (
    BackPressure,
    ChannelReader,
    RawCodec,
    ServiceMismatch,
    TransportError,
)
from taktora_trio.channels.codec import JsonCodec, MsgpackCodec
from taktora_trio.connectors.plan import trunk_spec
from taktora_trio.transport.cursor import DONE, SENT
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.envelope import HEADER
from taktora_trio.transport.node import open_node
from taktora_trio.transport.publisher import EnvelopePublisher
from taktora_trio.transport.ring import LAYOUT
from taktora_trio.transport.services import open_services, rings_service
from taktora_trio.transport.spec import KEPT_WRITERS
from taktora_trio.transport.trunk import announce
from tests.host.rig import open_channel, reader_of, writer_of
from tests.patience import PATIENCE
from tests.transport.rig import declare, open_domain, open_half, open_publisher, open_subscriber, take_all


@contextlib.asynccontextmanager
async def open_ends(domain: Domain, **options: int) -> AsyncIterator[tuple[EnvelopePublisher, ChannelReader[Any]]]:
    """Open a channel of bytes, with the port that writes and the reader of an app."""
    connector, spec = declare(bytes, RawCodec(), **options)
    async with (
        open_domain(domain, connector) as node,
        open_publisher(node, spec) as port,
        reader_of(node, connector) as reader,
    ):
        yield port, reader


def forge(port: EnvelopePublisher, number: int, *lengths: int, claimed: int | None = None) -> None:
    """Write another header over that of a message which is sent."""
    at = port._at[number % port.spec.window]
    HEADER.pack_into(port._memory, at, number if claimed is None else claimed, 2, 3, *lengths, 0, 0, b"")


@pytest.mark.parametrize("lengths", [(101, 0, 0), (2**32 - 1, 0, 0), (0, 1, 0), (100, 2**15, 0), (0, 0, 1)])
async def test_a_length_beyond_the_buffer_is_never_followed(domain: Domain, lengths: tuple[int, int, int]) -> None:
    async with open_ends(domain) as (port, reader):
        assert port.send(b"sent") == 1
        forge(port, 1, *lengths)
        with pytest.raises(TransportError, match="claims"):
            reader.receive_nowait()
        assert port.send(b"fine")
        assert reader.receive_nowait().value == b"fine"


async def test_an_envelope_that_is_counted_and_not_there_is_not_taken_until_it_is_sure_that_it_was_sent(
    domain: Domain,
) -> None:
    """As after a broken half has counted one more: the writer's next one has that number."""
    async with open_ends(domain) as (port, reader):
        port._counters[SENT] = 1
        for _ in range(2):
            with pytest.raises(trio.WouldBlock):
                reader.receive_nowait()
        assert port.send(b"1") == 1
        assert reader.receive_nowait().value == b"1"
        port._counters[SENT] = 2
        with pytest.raises(trio.WouldBlock):
            reader.receive_nowait()
        reader._port.confirm()  # the writer says so again and again
        with pytest.raises(TransportError, match="has the number 0, where 2 was expected"):
            reader.receive_nowait()
        assert port.send(b"2") == 2, "it is broken"
        assert port.send(b"3") == 3
        assert reader.receive_nowait().value == b"3"


async def test_an_envelope_that_is_written_over_while_it_is_sent_stops_nobody(domain: Domain) -> None:
    async with open_ends(domain) as (port, reader):
        assert port.send(b"sent") == 1
        forge(port, 1, 4, 0, 0, claimed=0)
        with pytest.raises(trio.WouldBlock):
            reader.receive_nowait()
        assert port.send(b"fine")
        with pytest.raises(TransportError, match="has the number 0, where 1 was expected"):
            reader.receive_nowait()
        assert reader.receive_nowait().value == b"fine"


@pytest.mark.parametrize("claimed", [2, 2**64 - 1])
async def test_an_envelope_with_a_number_that_is_not_expected_is_discarded(domain: Domain, claimed: int) -> None:
    async with open_ends(domain) as (port, reader):
        assert port.send(b"sent") == 1
        forge(port, 1, 4, 0, 0, claimed=claimed)
        with pytest.raises(TransportError, match=f"has the number {claimed}, where 1 was expected"):
            reader.receive_nowait()
        assert port.send(b"fine")
        assert reader.receive_nowait().value == b"fine"
        assert port.waiting == 0


@pytest.mark.parametrize("slot", [6, 2**31, 2**32 - 1])
async def test_a_slot_that_there_is_not_is_never_looked_at(domain: Domain, slot: int) -> None:
    async with open_ends(domain, window=4) as (port, reader):
        assert port.send(b"sent") == 1
        port._table[1] = slot
        with pytest.raises(TransportError, match="a slot beyond the 6 there are"):
            reader.receive_nowait()
        assert port.send(b"fine")
        assert reader.receive_nowait().value == b"fine"


@pytest.mark.parametrize("first", [5, 2**63, 2**64 - 1])
async def test_a_ring_that_says_it_begins_where_it_cannot(domain: Domain, first: int) -> None:
    """Nothing of that writer is read, and all of the next."""
    connector, spec = declare(bytes, RawCodec())
    async with open_domain(domain, connector) as node:
        async with open_publisher(node, spec) as port:
            port._outgoing.rings._words(port._outgoing.rings.places[spec.name].at, 1)[0] = first
            async with open_subscriber(node, spec) as reader:
                assert port.send(b"sent")
                assert list(take_all(reader)) == []
                assert port.send(b"sent")
                assert list(take_all(reader)) == []
        async with open_subscriber(node, spec) as reader, open_publisher(node, spec) as port:
            assert port.send(b"fine") == 3
            assert list(take_all(reader)) == [(3, b"fine")]


async def test_what_is_no_memory_of_ours_is_left_alone(domain: Domain, caplog: pytest.LogCaptureFixture) -> None:
    connector, spec = declare(bytes, RawCodec())
    async with open_domain(domain, connector) as node, open_subscriber(node, spec) as reader:
        service = rings_service(node.iox, trunk_spec(connector), "out")
        publisher = service.publisher_builder().initial_max_slice_len(1000).create()
        for words in (1, 8, 1000):
            publisher.loan_slice_uninit(words).assume_init().send()
            reader.attach()
            assert reader.take() is None
        publisher.delete()
        del service, publisher
        async with open_publisher(node, spec) as port:
            assert port.send(b"fine")
            assert list(take_all(reader)) == [(1, b"fine")]
    assert sum("words have come that are no rings" in record.getMessage() for record in caplog.records) == 1


async def test_a_peer_with_another_format_is_refused_and_told_in_what_it_differs(domain: Domain) -> None:
    connector, spec = declare(int, JsonCodec(), max_payload=100)
    async with open_domain(domain, connector) as node:
        for codec, max_payload, window, metadata, here, there in (
            (JsonCodec(), 200, 4, 0, "max_payload 200 bytes", "max_payload 100 bytes"),
            (MsgpackCodec(), 100, 4, 0, "codec msgpack", "codec json"),
            (JsonCodec(), 100, 8, 0, "window 8", "window 4"),
            (JsonCodec(), 100, 4, 1, "metadata 1 bytes", "metadata 0 bytes"),
            (JsonCodec(), 200, 8, 0, "max_payload 200 bytes, window 8", "max_payload 100 bytes, window 4"),
        ):
            unlike, other = declare(int, codec, max_payload=max_payload, window=window, max_metadata=metadata)
            for opened in (writer_of(node, unlike), reader_of(node, unlike)):
                with pytest.raises(ServiceMismatch) as caught:
                    async with opened:
                        pass
                assert str(caught.value) == (
                    f"channel {spec.name}: this half has {here}, the domain has {there}. The domain was made by another"
                    " version of the deployment: stop both halves and start both from the same one (with"
                    " `taktora-trio run`: stop the run and start it), or give this one a domain of its own"
                )
                assert spec.name == other.name
        async with writer_of(node, connector):
            pass


async def test_a_channel_has_one_writer(domain: Domain) -> None:
    connector, _ = declare(int, JsonCodec())
    async with open_domain(domain, connector) as node, writer_of(node, connector):
        with pytest.raises(TransportError, match="taken"):
            async with writer_of(node, connector):
                pass


async def test_sequence_numbers_go_on_when_a_writer_is_opened_again(domain: Domain) -> None:
    connector, _ = declare(int, JsonCodec())
    numbers = []
    async with (
        open_domain(domain, connector) as node,
        reader_of(node, connector) as reader,
    ):
        for _ in range(3):
            async with writer_of(node, connector) as writer:
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
    connector, _ = declare(int, JsonCodec())
    with domain.hold("owner"):
        async with open_node(domain, "test") as node, open_services(node, []):
            with pytest.raises(TransportError, match=r"DoesNotExist.*owner of the domain has not created it"):
                async with writer_of(node, connector):
                    pass


# A writer that is killed as it sends


class Killed(BaseException):
    """Stands for SIGKILL: nothing that follows in the writer is run."""


_LINES, _START = inspect.getsourcelines(EnvelopePublisher.send)


@contextlib.contextmanager
def killed_before(line: int, sends: Any = EnvelopePublisher.send) -> Iterator[None]:
    """Cut off a send in the block right before that line of the function, if it comes there."""

    def watch(frame: FrameType, event: str, arg: object) -> Any:
        if event == "line" and frame.f_lineno == line:
            raise Killed
        return watch

    before = sys.gettrace()
    sys.settrace(lambda frame, event, arg: watch if frame.f_code is sends.__code__ else None)
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
    connector, _ = declare(str, JsonCodec())
    numbers = dict[str, int]()
    async with (
        open_domain(domain, connector) as node,
        reader_of(node, connector) as reader,
    ):
        for life in range(4):
            async with writer_of(node, connector) as writer:
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


async def test_a_loan_is_sent_whole_or_not_at_all_wherever_its_writer_is_killed(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec(), window=2)
    lines, start = inspect.getsourcelines(EnvelopePublisher.send_loan)
    sent, got = list[bytes](), list[tuple[int, bytes]]()
    async with open_domain(domain, connector) as node, open_subscriber(node, spec) as reader:
        for line in range(start + 6, start + len(lines)):
            async with open_publisher(node, spec) as port:
                for number in range(3):  # one more than the window, so that a slot is used again
                    payload = b"%d.%d" % (line, number)
                    loan = port.loan(len(payload))
                    loan.payload[:] = payload
                    before = port._counters[SENT]
                    with killed_before(line if number == 2 else 0, EnvelopePublisher.send_loan):
                        assert port.send_loan(loan)
                    if port._counters[SENT] > before:
                        sent.append(payload)
                    got += take_all(reader)
                    reader.acknowledge(reader.taken)
    assert [payload for _, payload in got] == sent
    assert [number for number, _ in got] == list(range(1, len(sent) + 1))
    assert 2 * (len(lines) - 6) < len(sent) < 3 * (len(lines) - 6), "some were killed before, and some behind it"


# A peer that writes nonsense where both count


IMPOSSIBLE = [2**62 + 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("word", IMPOSSIBLE)
async def test_a_writer_does_not_believe_that_more_was_acknowledged_than_was_sent(
    word: int, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    connector, _ = declare(str, JsonCodec())
    async with open_domain(domain, connector) as node, writer_of(node, connector) as writer:
        cursor = writer._port._counters
        writer.send_nowait("0")
        cursor[DONE] = word
        for number in range(1, 4):
            writer.send_nowait(str(number))
        with pytest.raises(BackPressure):  # else what nobody has read would fall out of the history
            writer.send_nowait("4")
        async with reader_of(node, connector) as reader:
            assert [(await reader.receive()).value for _ in range(4)] == ["0", "1", "2", "3"]
            writer.send_nowait("4")
            assert (await reader.receive()).value == "4"
            assert writer._port.waiting == 0
    assert sum("which can't be" in record.getMessage() for record in caplog.records) == 2  # once each end


@pytest.mark.parametrize("word", IMPOSSIBLE)
async def test_a_writer_that_comes_after_one_that_counted_wrongly_goes_on(
    word: int, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    connector, _ = declare(str, JsonCodec())
    async with open_domain(domain, connector) as node:
        async with reader_of(node, connector) as reader:
            async with writer_of(node, connector) as writer:
                await writer.send("first")
                assert (await reader.receive()).value == "first"
                writer._port._sequence_number, writer._port._room_until = word - 1, word
                writer.send_nowait("jump")
                with pytest.raises(trio.WouldBlock):
                    reader.receive_nowait()
                assert not reader.is_behind
            async with writer_of(node, connector) as writer:
                for turn in range(3):
                    for number in range(4):
                        writer.send_nowait(f"{turn}.{number}")
                    with pytest.raises(BackPressure):
                        writer.send_nowait("too many")
                    assert [(await reader.receive()).value for _ in range(4)] == [f"{turn}.{n}" for n in range(4)]
                writer.send_nowait("last")
                assert reader.is_behind
                assert reader.receive_nowait().value == "last"
        async with reader_of(node, connector) as reader:
            with pytest.raises(trio.WouldBlock):
                reader.receive_nowait()
    assert "can't be" in caplog.text


@pytest.mark.parametrize("word", [6, *IMPOSSIBLE])
async def test_a_reader_does_not_believe_that_more_was_sent_than_the_window_holds(
    word: int, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    connector, spec = declare(bytes, RawCodec(), window=4)
    async with (
        open_domain(domain, connector) as node,
        open_publisher(node, spec) as port,
        open_subscriber(node, spec) as reader,
    ):
        assert port.send(b"1")
        assert list(take_all(reader)) == [(1, b"1")]
        for _ in range(3):
            port._counters[SENT] = word
            assert reader.take() is None
        assert port.send(b"2")
        assert list(take_all(reader)) == [(2, b"2")]
    assert sum("which can't be" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("generation", [0, 1, 2**64 - 1])
async def test_a_word_that_names_no_writer_stops_nobody_for_good(generation: int, domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec(), window=4)
    async with open_domain(domain, connector) as node, open_subscriber(node, spec) as reader:
        async with open_publisher(node, spec) as port:
            assert port.send(b"1")
            reader._writer[0] = generation
            list(take_all(reader))
        async with open_publisher(node, spec) as port:
            assert port.send(b"2")
            assert list(take_all(reader))[-1] == (2, b"2")


@pytest.mark.parametrize("word", [0, *IMPOSSIBLE])
@pytest.mark.parametrize("how", ["release", "acknowledge_receipt"])
async def test_a_channel_goes_on_when_both_counts_were_written_over(how: str, word: int, domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec(), window=4)
    async with (
        open_domain(domain, connector) as node,
        open_publisher(node, spec) as port,
        open_subscriber(node, spec) as reader,
    ):
        for turn in range(3):
            for number in range(4 * turn + 1, 4 * turn + 5):
                assert port.send(b"x") == number
            port._counters[SENT] = port._counters[DONE] = word
            assert not port.has_room
            assert [number for number, _ in take_all(reader)] == list(range(4 * turn + 1, 4 * turn + 5))
            getattr(reader, how)(reader.taken)


@pytest.mark.parametrize("word", IMPOSSIBLE)
async def test_a_reader_that_comes_takes_a_window_again_where_nobody_knows_what_is_done(
    word: int, domain: Domain
) -> None:
    connector, spec = declare(bytes, RawCodec(), window=4)
    async with open_domain(domain, connector) as node, open_publisher(node, spec) as port:
        async with open_subscriber(node, spec) as reader:
            for number in range(1, 21):
                assert port.send(b"x") == number
                assert len(list(take_all(reader))) == 1
                reader.acknowledge(number)
        port._counters[DONE] = word
        async with open_subscriber(node, spec) as reader:
            assert [number for number, _ in take_all(reader)] == [17, 18, 19, 20]
            reader.acknowledge(20)
            assert port.send(b"x") == 21


async def test_a_writer_says_again_who_writes(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec(), window=4)
    async with open_domain(domain, connector) as node, open_publisher(node, spec) as port:
        async with open_subscriber(node, spec) as reader:
            assert port.send(b"1")
            reader._writer[0] = 5
            assert list(take_all(reader)) == []
            while port.send(b"x"):  # as it finds no room
                pass
            assert next(take_all(reader)) == (1, b"1")
            reader._writer[0] = 5
        async with open_subscriber(node, spec) as reader:
            reader.acknowledge(max(number for number, _ in take_all(reader)))
            for _ in range(6):
                number = port.send(b"next")
                assert list(take_all(reader)) == [(number, b"next")]
                reader.acknowledge(number)


class _Sample:
    """What is no memory of ours, of a size that ours has."""

    def __init__(self, words: int) -> None:
        self._memory = (ctypes.c_uint64 * words)()
        self.address, self.words = ctypes.addressof(self._memory), words

    def delete(self) -> None:
        pass


@pytest.mark.parametrize("layout", [0, LAYOUT])
async def test_a_writer_that_sends_sample_after_sample_holds_nobody_up(layout: int, domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec(), window=4)

    class Endless:
        count = 0

        def receive(self) -> _Sample:
            self.count += 1
            assert self.count < 10_000
            sample = _Sample(trunk_spec(connector).rings_bytes("out") // 8)
            sample._memory[1] = layout
            sample._memory[0] = self.count
            return sample

    async with open_domain(domain, connector) as node, open_half(node, spec, "gateway") as trunk:
        assert trunk._incoming is not None
        trunk._incoming._subscriber = Endless()  # type: ignore[assignment]
        trunk.update_connections()
        with trunk.open_subscriber(spec.name) as reader:
            assert reader.take() is None


# Writers and readers that come and go


async def test_what_a_writer_has_sent_just_before_its_end_is_read(domain: Domain) -> None:
    """Though its reader looked how much that was just before, and found the next one's beginning just after."""
    connector, spec = declare(bytes, RawCodec(), window=4)

    class Counters:
        """Those of a reader that is held up as soon as it has looked at `SENT`."""

        def __init__(self, counters: Any, meanwhile: Callable[[], None]) -> None:
            self._counters, self._meanwhile = counters, [meanwhile]

        def __getitem__(self, word: int) -> int:
            value: int = self._counters[word]
            if word == SENT and self._meanwhile:
                self._meanwhile.pop()()
            return value

        def __setitem__(self, word: int, value: int) -> None:
            self._counters[word] = value

    async with open_domain(domain, connector) as node, open_subscriber(node, spec) as reader:
        async with open_publisher(node, spec) as port:
            assert port.send(b"1")
            assert list(take_all(reader)) == [(1, b"1")]

            def meanwhile() -> None:
                assert port.send(b"2")
                announce(node, trunk_spec(connector), "app")

            reader._counters = Counters(reader._counters, meanwhile)  # type: ignore[assignment]
            assert list(take_all(reader)) == [(2, b"2")]
        async with open_publisher(node, spec) as port:
            assert port.send(b"3")
            assert list(take_all(reader)) == [(3, b"3")]


async def test_a_reader_goes_from_one_writers_ring_to_the_next(domain: Domain) -> None:
    """Though some sent nothing, and some were gone before anybody looked."""
    connector, spec = declare(bytes, RawCodec(), window=4)
    sent = list[tuple[int, bytes]]()
    async with open_domain(domain, connector) as node, open_subscriber(node, spec) as reader:
        for life, count in enumerate([4, 0, 3, 1, 0, 4]):
            async with open_publisher(node, spec) as port:
                for number in range(count):
                    payload = b"%d.%d" % (life, number)
                    sent.append((port.send(payload), payload))
                reader.attach()
        assert reader._incoming._newest is not None
        assert list(take_all(reader)) == sent
    assert [number for number, _ in sent] == list(range(1, 13))


async def test_more_writers_than_are_kept_end_nobody_and_lose_nothing(
    domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    """A writer whose memory can't be taken sends nothing: that would be lost with it. It sends when there is room."""
    connector, spec = declare(bytes, RawCodec(), window=KEPT_WRITERS + 40)
    sent = list[tuple[int, bytes]]()
    async with open_domain(domain, connector) as node, open_subscriber(node, spec) as reader:
        for life in range(KEPT_WRITERS + 30):
            async with open_publisher(node, spec) as port:
                if number := port.send(b"%d" % life):
                    sent.append((number, b"%d" % life))
                reader.attach()
        assert len(sent) >= KEPT_WRITERS
        async with open_publisher(node, spec) as port:
            assert not port.has_room
            assert port.is_waited_for
            port.space.clear()
            assert list(take_all(reader)) == sent
            reader.acknowledge(reader.taken)
            with trio.fail_after(PATIENCE):
                await port.space.wait()
            number = port.send(b"last")
            assert number == len(sent) + 1
            assert list(take_all(reader)) == [(number, b"last")]
    assert sum("is not read" in record.getMessage() for record in caplog.records) == 1


async def test_a_reader_that_is_opened_later_takes_what_a_writer_that_is_gone_has_left(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec(), window=4)
    async with open_domain(domain, connector) as node, open_half(node, spec, "gateway") as trunk:
        async with open_publisher(node, spec) as port:
            assert port.send(b"1")
            with trunk.open_subscriber(spec.name) as reader:
                assert list(take_all(reader)) == [(1, b"1")]
                reader.acknowledge(1)
            assert port.send(b"2")
        with trunk.open_subscriber(spec.name) as reader:
            assert list(take_all(reader)) == [(2, b"2")]
            with pytest.raises(TransportError, match="is the channel open already"), trunk.open_subscriber(spec.name):
                pass


@pytest.mark.parametrize("reads", [False, True])
async def test_what_a_writer_that_is_gone_wrote_is_let_go_of_for_the_next_one(reads: bool, domain: Domain) -> None:
    """Also where nobody waits, or has the channel open: the next writer may have room for nothing else."""
    connector, spec = declare(bytes, RawCodec(), window=4)

    def mapped() -> int:
        lines = Path("/proc/self/maps").read_text().splitlines()
        return sum(f"/{domain.prefix}" in line and ".data" in line for line in lines)

    async with open_domain(domain, connector) as node, contextlib.AsyncExitStack() as stack:
        trunk = await stack.enter_async_context(open_half(node, spec, "gateway"))
        async with open_publisher(node, spec) as port:
            assert port.send(b"1")
            if reads:
                reader = stack.enter_context(trunk.open_subscriber(spec.name))
                assert list(take_all(reader)) == [(1, b"1")]
        assert mapped() == 1
        announce(node, trunk_spec(connector), "app")
        trunk.update_connections()
        assert mapped() == 0
        async with open_publisher(node, spec) as port:
            assert port.send(b"2")
            if not reads:
                reader = stack.enter_context(trunk.open_subscriber(spec.name))
            assert list(take_all(reader)) == [(2, b"2")]


async def test_an_envelope_is_kept_where_it_is_pinned(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec(), window=2)
    async with (
        open_domain(domain, connector) as node,
        open_publisher(node, spec) as port,
        open_subscriber(node, spec) as reader,
    ):
        assert port.send(b"one")
        assert port.send(b"two")
        place = reader.take()
        assert place is not None
        _, one, _, _ = reader.open(place)
        unpin = reader.pin()
        assert list(take_all(reader)) == [(2, b"two")]
        reader.acknowledge(2)
        assert port.send(b"six") == 0, "there is no room"
        unpin()
        assert port.send(b"six") == 3
        assert port.send(b"ten") == 4
        assert bytes(one) == b"six", "the slot is used again"


async def test_a_pinned_envelope_outlives_its_writer_and_its_reader(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec(), window=2)
    async with open_domain(domain, connector) as node:
        async with open_half(node, spec, "gateway") as trunk:
            async with open_publisher(node, spec) as port:
                assert port.send(b"one")
                with trunk.open_subscriber(spec.name) as reader:
                    place = reader.take()
                    assert place is not None
                    _, one, _, _ = reader.open(place)
                    unpin = reader.pin()
            async with open_publisher(node, spec) as port:
                assert port.send(b"two")
                with trunk.open_subscriber(spec.name) as reader:
                    assert list(take_all(reader)) == [(2, b"two")], "nobody had the other one to read"
                assert bytes(one) == b"one"
        assert bytes(one) == b"one"
        unpin()


async def test_loans_and_sends_go_on_side_by_side(domain: Domain) -> None:
    connector, spec = declare(bytes, RawCodec(), window=3)
    async with (
        open_domain(domain, connector) as node,
        open_publisher(node, spec) as port,
        open_subscriber(node, spec) as reader,
    ):
        for turn in range(20):
            first, second = port.loan(3), port.loan(3)
            with pytest.raises(TransportError, match="end a loan"):
                port.loan(3)
            first.payload[:] = b"1st"
            assert port.send(b"in between")
            second.payload[:] = b"2nd"
            assert port.send_loan(second)
            if turn % 3:
                first.give_back()
            else:
                assert port.send_loan(first)
            expected = [b"in between", b"2nd", b"1st"][: 3 - bool(turn % 3)]
            assert [payload for _, payload in take_all(reader)] == expected
            reader.acknowledge(reader.taken)
    assert sorted(port._spare) == sorted(set(port._spare))
    assert len(port._spare) == 2


@pytest.mark.parametrize("how", ["release", "acknowledge_receipt"])
async def test_what_is_released_before_it_was_taken_is_passed_over(domain: Domain, how: str) -> None:
    """A gateway finds on disk what it is about to be given: it is not given that, and all that comes behind it."""
    connector, spec = declare(bytes, RawCodec(), window=4)
    async with open_domain(domain, connector) as node, open_publisher(node, spec) as port:
        while port.send(b"old"):
            pass
        async with open_subscriber(node, spec) as reader:
            getattr(reader, how)(4)
            got = list[int]()
            while port.last_sent < 12:
                assert port.send(b"new")
                assert port.send(b"new")
                got += [number for number, _ in take_all(reader)]
                getattr(reader, how)(got[-1])
            assert reader.released == 12
            getattr(reader, how)(2**40)
            assert reader.released == 12, "more than was sent"
    assert got == list(range(5, 13))


@pytest.mark.parametrize("seed", range(4))
async def test_halves_that_are_replaced_in_any_order_miss_nothing_that_is_theirs(seed: int, domain: Domain) -> None:
    """A reader gets all behind what is done with that a writer has sent whose memory it has, each once, in order."""
    rng = random.Random(seed)
    connector, spec = declare(bytes, RawCodec(), window=rng.choice([1, 3, 8]))
    sent = dict[int, bytes]()
    async with open_domain(domain, connector) as node, contextlib.AsyncExitStack() as stack:
        ends = {name: await stack.enter_async_context(contextlib.AsyncExitStack()) for name in ("writer", "reader")}
        port = await ends["writer"].enter_async_context(open_publisher(node, spec))
        reader = await ends["reader"].enter_async_context(open_subscriber(node, spec))
        expected = 1
        for _ in range(400):
            match rng.choices(["send", "lend", "take", "done", "writer", "reader"], [30, 8, 30, 15, 3, 1])[0]:
                case "send":
                    payload = rng.randbytes(rng.choice([0, 1, 100]))
                    if number := port.send(payload):
                        sent[number] = payload
                case "lend":
                    loan = port.loan(3)
                    loan.payload[:] = payload = rng.randbytes(3)
                    if rng.random() < 0.3 and (number := port.send(b"before")):
                        sent[number] = b"before"
                    if number := port.send_loan(loan):
                        sent[number] = payload
                    else:
                        loan.give_back()
                case "take":
                    for _ in range(rng.randrange(5)):
                        if (place := reader.take()) is not None:
                            header, view, _, _ = reader.open(place)
                            assert (header.sequence_number, bytes(view)) == (expected, sent[expected])
                            expected += 1
                case "done":
                    if reader.taken > reader.released:
                        reader.acknowledge(rng.randint(reader.released + 1, reader.taken))
                case "writer":
                    await ends["writer"].aclose()
                    port = await ends["writer"].enter_async_context(open_publisher(node, spec))
                case "reader":
                    await ends["reader"].aclose()
                    reader = await ends["reader"].enter_async_context(open_subscriber(node, spec))
                    expected = max(port.first, reader.released) + 1
        assert [number for number, _ in take_all(reader)] == list(range(expected, port.last_sent + 1))
    assert len(sent) == max(sent) > 30
