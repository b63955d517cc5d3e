"""The socket below a session: the kernel tells of answers once enough have gathered, and takes what is written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, open_stream_to_socket_listener, wait_all_tasks_blocked

from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions.direct import Direct
from taktora_trio.connectors.mqtt.sessions.native import NativeSession
from taktora_trio.connectors.mqtt.wire import packets
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.connectors.mqtt.wire.state import SessionState

LONG = 0.001  # seconds: as the session gathers


@contextlib.asynccontextmanager
async def open_pair() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        ours = await open_stream_to_socket_listener(listener)
        async with ours, await listener.accept() as theirs:
            yield ours, theirs


async def test_it_waits_until_enough_has_come(mock_clock: MockClock) -> None:
    async with open_pair() as (ours, theirs), trio.open_nursery() as nursery:
        direct, ended = Direct(ours, has_layers=False), trio.Event()

        async def gather() -> None:
            await direct.gather(100, LONG)
            ended.set()

        nursery.start_soon(gather)
        for _ in range(9):
            await theirs.send_all(bytes(10))
            await wait_all_tasks_blocked()
            assert not ended.is_set()
        await theirs.send_all(bytes(10))
        await ended.wait()  # no time passes
        assert direct.read_now(1000) == bytes(100)
        assert direct.read_now(1000) is None


async def test_it_waits_no_longer_than_told_and_then_tells_of_every_byte(autojump_clock: MockClock) -> None:
    async with open_pair() as (ours, theirs):
        direct, began = Direct(ours, has_layers=False), trio.current_time()
        await theirs.send_all(bytes(10))
        await direct.gather(100, LONG)
        assert trio.current_time() - began == pytest.approx(LONG)
        assert direct.read_now(1000) == bytes(10)
        await theirs.send_all(b"x")
        assert await ours.receive_some() == b"x"


async def test_the_other_sides_end_ends_the_wait(mock_clock: MockClock) -> None:
    async with open_pair() as (ours, theirs):
        direct = Direct(ours, has_layers=False)
        await theirs.send_all(b"x")
        await theirs.aclose()
        await direct.gather(100, LONG)
        assert direct.read_now(1000) == b"x"
        await direct.gather(100, LONG)
        assert direct.read_now(1000) == b""


async def test_a_write_returns_what_the_kernel_does_not_take(autojump_clock: MockClock) -> None:
    whole = bytes(range(256)) * 2**16
    async with open_pair() as (ours, theirs), trio.open_nursery() as nursery:
        rest = Direct(ours, has_layers=False).write_now(whole)
        assert 0 < len(rest) < len(whole)
        nursery.start_soon(ours.send_all, rest)
        came = bytearray()
        while len(came) < len(whole):
            came += await theirs.receive_some()
        assert came == whole


async def test_below_layers_it_neither_reads_nor_writes(mock_clock: MockClock) -> None:
    async with open_pair() as (ours, theirs):
        direct = Direct(ours, has_layers=True)
        await theirs.send_all(b"x")
        await direct.gather(1, LONG)
        assert direct.read_now(1000) is None
        assert direct.write_now(b"y") == b"y"
        assert await ours.receive_some() == b"x"


async def test_a_broken_connection_is_said_as_streams_say_it(mock_clock: MockClock) -> None:
    async with open_pair() as (ours, theirs):
        direct = Direct(ours, has_layers=False)
        await theirs.send_all(b"x")
        await ours.aclose()
        with pytest.raises(trio.BrokenResourceError):
            direct.write_now(b"y")
        with pytest.raises(trio.BrokenResourceError):
            direct.read_now(1000)
        with pytest.raises(trio.BrokenResourceError):
            await direct.gather(1, LONG)


async def test_a_session_reads_answers_once_three_quarters_have_come(mock_clock: MockClock) -> None:
    async with open_pair() as (ours, broker):
        done, last = list[int](), trio.Event()

        def finish(number: int, refusal: str) -> None:
            done.append(number)
            if len(done) in (48, 64):
                last.set()

        session = NativeSession(
            ours, MqttOptions(), SessionState(), lambda message: None, 100, Direct(ours, has_layers=False)
        )
        session.entered.set()
        await broker.send_all(b"\x20\x02\0\0")
        await session.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.write)
            await wait_all_tasks_blocked()
            for number in range(1, 65):
                session.publish(Message("t", b"x", 1), number, finish)
            nursery.start_soon(session.read)
            answer = partial(int.to_bytes, length=2, byteorder="big")
            for number in range(1, 48):
                await broker.send_all(b"\x40\x02" + answer(number))
                await wait_all_tasks_blocked()
                assert not done
            await broker.send_all(b"\x40\x02" + answer(48))
            await last.wait()
            assert done == list(range(1, 49))
            last = trio.Event()
            for number in range(49, 65):
                await broker.send_all(b"\x40\x02" + answer(number))
            await last.wait()  # no time passes: nothing waits for more than these few
            assert done == list(range(1, 65))
            session.close()
            nursery.cancel_scope.cancel()


PARTS = [b"head", bytes(range(256)) * 2**14, b"", b"h", b"second" * 2**19, *(b"%d" % number for number in range(200))]


async def test_parts_are_written_as_one_stream_whatever_the_kernel_takes_at_once(autojump_clock: MockClock) -> None:
    whole, came, written = b"".join(PARTS), bytearray(), trio.Event()
    async with open_pair() as (ours, theirs), trio.open_nursery() as nursery:

        async def write() -> None:
            assert await Direct(ours, has_layers=False).write_parts(list(PARTS))
            written.set()

        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        assert not written.is_set()  # the other side has not read
        while len(came) < len(whole):
            came += await theirs.receive_some(100_001)
        await written.wait()
        assert came == whole


async def test_parts_are_left_to_layers_and_to_nobody_at_an_end(autojump_clock: MockClock) -> None:
    async with open_pair() as (ours, theirs):
        assert not await Direct(ours, has_layers=True).write_parts(list(PARTS))
        await theirs.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await Direct(ours, has_layers=False).write_parts(list(PARTS) * 10)


@pytest.mark.parametrize("is_layered", [False, True])
async def test_a_large_message_of_qos_0_is_done_when_it_is_written(is_layered: bool, autojump_clock: MockClock) -> None:
    """Not before: its payload may be somebody's memory until then."""
    done, payload = list[int](), memoryview(bytes(range(256)) * 2**15).toreadonly()
    async with open_pair() as (ours, theirs):
        options, direct = MqttOptions(), Direct(ours, has_layers=is_layered)
        session = NativeSession(ours, options, SessionState(), lambda message: None, 100, direct)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.write)
            for number in (1, 2):
                session.publish(
                    Message("t", cast("bytes", payload), 0), number, lambda number, refusal: done.append(number)
                )
            await wait_all_tasks_blocked()
            assert done == []
            came = bytearray()
            while len(came) < 2 * len(payload):
                came += await theirs.receive_some(2**20)
            await wait_all_tasks_blocked()
            assert done == [1, 2]
            assert came.count(payload) == 2
            nursery.cancel_scope.cancel()
            session.close()


@contextlib.asynccontextmanager
async def open_session(*, has_layers: bool = False) -> AsyncIterator[tuple[NativeSession, trio.SocketStream]]:
    """A session that is connected and writes; and the broker's end."""
    async with open_pair() as (ours, broker):
        session = NativeSession(
            ours, MqttOptions(), SessionState(), lambda message: None, 100, Direct(ours, has_layers=has_layers)
        )
        await broker.send_all(b"\x20\x02\0\0")
        await session.connect()
        while not (await broker.receive_some()).startswith(b"\x10"):
            pass
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.write)
            await wait_all_tasks_blocked()
            yield session, broker
            session.close()
            nursery.cancel_scope.cancel()


def there_is(stream: trio.SocketStream) -> bytes:
    """Return what has come, with no turn of the loop."""
    with contextlib.suppress(BlockingIOError):
        return os.read(stream.socket.fileno(), 2**20)
    return b""


@pytest.mark.parametrize("qos", [0, 1])
async def test_what_is_published_together_is_written_at_once(qos: int, mock_clock: MockClock) -> None:
    done = list[int]()
    async with open_session() as (session, broker):
        together = session.in_batches(contextlib.nullcontext())
        for first in (1, 3):  # and once more, when there is nothing to do meanwhile
            with together:
                for number in (first, first + 1):
                    session.publish(Message("t", b"x", qos), number, lambda number, refusal: done.append(number))
                assert not there_is(broker)
            came = there_is(broker)
            assert came.count(b"\0\x01t") == 2
            assert came.endswith(b"x")
            assert done == (list(range(1, first + 2)) if qos == 0 else [])
        session.publish(Message("t", b"last", qos), 5, lambda number, refusal: None)
        await wait_all_tasks_blocked()
        assert there_is(broker).endswith(b"last"), "outside it goes its usual way"


async def test_what_the_kernel_does_not_take_of_it_follows_in_order(mock_clock: MockClock) -> None:
    count, payload = 3000, bytes(2**14 - 1)
    done = list[int]()
    async with open_session() as (session, broker):
        with session.in_batches(contextlib.nullcontext()):
            for number in range(1, count):
                session.publish(Message("t", payload, 0), number, lambda number, refusal: done.append(number))
        assert not done, "not all of it is written"
        with session.in_batches(contextlib.nullcontext()):  # it must not overtake the rest
            session.publish(Message("t", b"last", 0), count, lambda number, refusal: done.append(number))
        came, head = bytearray(), b"\x30\x82\x80\x01\0\x01t"
        while not came.endswith(b"last"):
            came += await broker.receive_some()
        assert came == (head + payload) * (count - 1) + b"\x30\x07\0\x01tlast"
        await wait_all_tasks_blocked()
        assert done == list(range(1, count + 1))


async def test_above_layers_it_is_written_by_the_one_that_writes(mock_clock: MockClock) -> None:
    async with open_session(has_layers=True) as (session, broker):
        with session.in_batches(contextlib.nullcontext()):
            session.publish(Message("t", b"x", 1), 1, lambda number, refusal: None)
        assert not there_is(broker)
        await wait_all_tasks_blocked()
        assert there_is(broker).endswith(b"x")


async def test_a_connection_that_breaks_then_is_lost(mock_clock: MockClock) -> None:
    async with open_session() as (session, _):
        await session.stream.aclose()
        with session.in_batches(contextlib.nullcontext()):
            session.publish(Message("t", b"x", 1), 1, lambda number, refusal: None)
        assert session.lost is not None
        assert "broke" in str(session.lost)


async def test_answers_that_were_read_together_are_handed_over_in_one_block(mock_clock: MockClock) -> None:
    record, last = list[str](), trio.Event()

    @contextlib.contextmanager
    def blocks() -> Iterator[None]:
        record.append("[")
        yield
        record.append("]")
        if record.count("3"):
            last.set()

    class Answers:
        def __enter__(self) -> None:
            self._block = blocks()
            self._block.__enter__()

        def __exit__(self, *failure: Any) -> None:
            self._block.__exit__(*failure)

    async with open_session() as (session, broker), trio.open_nursery() as nursery:
        session.in_batches(Answers())
        for number in (1, 2, 3):
            session.publish(Message("t", b"x", 1), number, lambda number, refusal: record.append(str(number)))
        await broker.send_all(b"".join(b"\x40\x02" + number.to_bytes(2, "big") for number in (1, 2, 3)))
        session.entered.set()
        nursery.start_soon(session.read)
        await last.wait()
        assert "".join(record).replace("[]", "") == "[123]"
        nursery.cancel_scope.cancel()


async def test_it_reads_to_a_place_and_what_comes_behind_beside_it(autojump_clock: MockClock) -> None:
    whole = bytes(range(256)) * 2**10
    async with open_pair() as (ours, theirs), trio.open_nursery() as nursery:
        direct, place = Direct(ours, has_layers=False), bytearray(100_000)
        nursery.start_soon(theirs.send_all, whole)
        came, behind = 0, b""
        while came < len(place):
            assert not behind
            arrived = await direct.read_into(memoryview(place)[came:])
            assert arrived is not None
            came, behind = came + arrived[0], arrived[1]
        while len(behind) < len(whole) - len(place):
            behind += await ours.receive_some()
        assert place + behind == whole
        await theirs.aclose()
        assert await direct.read_into(memoryview(place)) == (0, b"")
        assert await Direct(ours, has_layers=True).read_into(memoryview(place)) is None


async def test_a_connection_that_ends_in_the_middle_of_a_large_message_is_lost(autojump_clock: MockClock) -> None:
    messages = list[Message]()
    async with open_pair() as (ours, theirs):
        direct = Direct(ours, has_layers=False)
        session = NativeSession(ours, MqttOptions(), SessionState(), messages.append, 10**6, direct)
        session.entered.set()
        whole = packets.packet(0x30, packets.string("t"), b"x" * 100_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.read)
            for data in (b"\x20\x02\0\0", whole, whole[:50_000], whole[50_000:60_000]):
                await theirs.send_all(data)
                await wait_all_tasks_blocked()
            await theirs.aclose()
        assert "closed the connection" in str(session.lost)
        assert [message.payload for message in messages] == [b"x" * 100_000]
