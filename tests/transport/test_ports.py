"""The ports below writers and readers: whatever an end or a peer does to them, nothing is counted wrongly."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
import trio
import trio.testing

from taktora_trio import (
    BackPressure,
    RawCodec,
    ServiceMismatch,
    TransportError,
)
from taktora_trio.channels.codec import JsonCodec, MsgpackCodec
from taktora_trio.transport import ports
from taktora_trio.transport.attaching import open_subscriber
from taktora_trio.transport.cursor import DONE, INTENDED, SENT
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.envelope import HEADER
from taktora_trio.transport.node import open_node
from taktora_trio.transport.ports import EnvelopePublisher, open_envelope_publisher, open_envelope_subscriber
from taktora_trio.transport.services import open_services
from tests.host.rig import open_channel, reader_of, writer_of
from tests.transport.rig import declare, open_domain


@pytest.mark.parametrize("lengths", [(101, 0, 0), (2**32 - 1, 0, 0), (0, 1, 0), (100, 2**15, 0), (0, 0, 1)])
async def test_a_length_beyond_the_buffer_is_never_followed(domain: Domain, lengths: tuple[int, int, int]) -> None:
    connector, spec = declare(bytes, RawCodec())
    async with (
        open_domain(domain, connector) as node,
        open_envelope_publisher(node, spec) as port,
        reader_of(node, connector) as reader,
    ):
        loan = port.loan(5)
        HEADER.pack_into(loan.buffer, 0, 1, 2, 3, *lengths, 0, 0, b"")
        assert loan.sample.assume_init().send() == 1
        with pytest.raises(TransportError, match="claims"):
            reader.receive_nowait()
        assert port.send(b"fine")
        assert reader.receive_nowait().value == b"fine"


async def test_a_peer_with_another_format_is_refused_with_both_descriptions(domain: Domain) -> None:
    connector, spec = declare(int, JsonCodec(), max_payload=100)
    async with open_domain(domain, connector) as node:
        for codec, max_payload, window, metadata in (
            (JsonCodec(), 200, 4, 0),
            (MsgpackCodec(), 100, 4, 0),
            (JsonCodec(), 100, 8, 0),
            (JsonCodec(), 100, 4, 1),
        ):
            unlike, other = declare(int, codec, max_payload=max_payload, window=window, max_metadata=metadata)
            for opened in (writer_of(node, unlike), reader_of(node, unlike)):
                with pytest.raises(ServiceMismatch) as caught:
                    async with opened:
                        pass
                assert spec.description in str(caught.value)
                assert other.description in str(caught.value)
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


_LINES, _START = inspect.getsourcelines(EnvelopePublisher._send)


@contextlib.contextmanager
def killed_before(line: int) -> Iterator[None]:
    """Cut off a send in the block right before that line of `_send`, if it comes there."""

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
            writer._port.update_connections()
            assert [(await reader.receive()).value for _ in range(4)] == ["0", "1", "2", "3"]
            writer.send_nowait("4")
            assert (await reader.receive()).value == "4"
            assert writer._port.waiting == 0
    assert sum("which can't be" in record.getMessage() for record in caplog.records) == 2  # once each end


@pytest.mark.parametrize("word", IMPOSSIBLE)
async def test_a_writer_that_comes_after_one_that_counted_wrongly_goes_on(word: int, domain: Domain) -> None:
    connector, _ = declare(str, JsonCodec())
    async with open_domain(domain, connector) as node:
        async with reader_of(node, connector) as reader:
            async with writer_of(node, connector) as writer:
                writer._port._sequence_number, writer._port._room_until = word - 1, word
                writer.send_nowait("jump")
                assert (await reader.receive()).value == "jump"
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
        async with reader_of(node, connector) as reader:
            with pytest.raises(trio.WouldBlock):
                reader.receive_nowait()


async def test_a_reader_opens_although_the_word_changes_all_the_time(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector, _ = declare(str, JsonCodec())
    async with open_domain(domain, connector) as node, writer_of(node, connector) as writer:
        opened = 0

        async def open_and_count(*arguments: Any) -> Any:
            nonlocal opened
            writer._port._counters[SENT] += 1
            opened += 1
            assert opened < 100, "it does not end, and has no checkpoint"
            return await open_subscriber(*arguments)

        writer.send_nowait("here")
        monkeypatch.setattr("taktora_trio.transport.ports.open_subscriber", open_and_count)
        async with reader_of(node, connector) as reader:
            writer._port.update_connections()
            assert (await reader.receive()).value == "here"


@pytest.mark.parametrize("moment", ["sent, not counted", "sent and counted"])
async def test_a_reader_that_comes_while_its_writer_sends_misses_none(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """What reaches the history meanwhile pushes the oldest one out of what the reader has asked for."""
    connector, spec = declare(bytes, RawCodec(), window=16)
    real, calls = open_subscriber, list[int]()
    async with open_domain(domain, connector) as node, open_envelope_publisher(node, spec) as port:
        counters = port._counters

        async def while_sending(*arguments: Any) -> Any:
            calls.append(arguments[2])
            if len(calls) > 1:
                return await real(*arguments)
            assert port.send(b"3")
            if moment == "sent, not counted":
                counters[SENT] = 3
            return await real(*arguments)

        for number in range(3):
            assert port.send(b"%d" % number)
        monkeypatch.setattr(ports, "open_subscriber", while_sending)

        async def go_on() -> None:
            await trio.testing.wait_all_tasks_blocked()
            counters[SENT] = max(counters[SENT], counters[INTENDED])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on)
            async with open_envelope_subscriber(node, spec) as reader:
                nursery.cancel_scope.cancel()
                while port.last_sent < 6:
                    assert port.send(b"%d" % port.last_sent)
                got = []
                while sample := reader.take():
                    got.append(reader.open(sample)[0].sequence_number)
                    sample.delete()
    assert got == [1, 2, 3, 4, 5, 6]
    assert len(calls) == 2


@pytest.mark.parametrize("how", ["release", "acknowledge_receipt"])
async def test_what_is_released_before_it_was_taken_makes_no_room_that_is_not_there(domain: Domain, how: str) -> None:
    """A gateway finds on disk what it is about to be given: its writer must not send into a full buffer."""
    connector, spec = declare(bytes, RawCodec(), window=4)
    async with open_domain(domain, connector) as node, open_envelope_publisher(node, spec) as port:
        while port.send(b"old"):
            pass
        async with open_envelope_subscriber(node, spec) as reader:
            getattr(reader, how)(4)
            got = list[int]()
            while port.last_sent < 12 or got[-1] < 12:
                port.update_connections()  # as a writer does that waits
                port.send(b"new")
                port.send(b"new")
                while sample := reader.take():
                    got.append(reader.open(sample)[0].sequence_number)
                    getattr(reader, how)(max(got[-1], 4))
                    sample.delete()
            assert reader.released == 12
    assert got == list(range(1, 13))
