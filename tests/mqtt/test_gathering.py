"""While much is on its way to the broker, the native session lets answers gather; and nobody waits for it else."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from trio.testing import MockClock, memory_stream_pair

from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions.native import NativeSession
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.connectors.mqtt.wire.state import SessionState

LONG = 0.001  # seconds: no answer is left unread for longer


class Counting(trio.abc.Stream):
    """Counts the reads that brought something."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.reads = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        self.reads += 1
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextlib.asynccontextmanager
async def _served(session: NativeSession) -> AsyncIterator[None]:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.write)
            nursery.start_soon(session.read)
            try:
                yield
            finally:
                session.close()
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("count", "gathers"), [(1, False), (20, False), (200, True)])
@pytest.mark.parametrize("qos", [1, 2])
async def test_many_answers_are_read_at_once(count: int, gathers: bool, qos: int, autojump_clock: MockClock) -> None:
    ours, broker = memory_stream_pair()
    stream, done = Counting(ours), list[int]()
    inbound: list[float] = []
    session = NativeSession(
        stream, MqttOptions(), SessionState(), lambda message: inbound.append(trio.current_time()), 100
    )
    session.entered.set()
    await broker.send_all(b"\x20\x02\0\0")
    await session.connect()
    async with _served(session):
        for number in range(1, count + 1):
            session.publish(Message("t", b"x", qos), number, lambda number, refusal: done.append(number))
        await trio.testing.wait_all_tasks_blocked()
        stream.reads, began = 0, trio.current_time()
        answers = [b"\x40\x02"] if qos == 1 else [b"\x50\x02", b"\x70\x02"]
        for number in range(1, count + 1):
            for answer in answers:
                await broker.send_all(answer + number.to_bytes(2, "big"))
            if number == count // 2:
                await broker.send_all(b"\x30\x04\0\x01tx")
            for _ in range(5):  # the session has its turns, while no time passes
                await trio.lowlevel.checkpoint()
        while len(done) < count:  # noqa: ASYNC110 - each look is a step of the mock clock
            await trio.sleep(LONG / 10)
    assert done == list(range(1, count + 1))
    if gathers:
        assert stream.reads < count / 4
        assert trio.current_time() - began <= 3 * LONG
    else:
        assert stream.reads >= count
    assert len(inbound) == (count > 1)
    assert all(at - began <= LONG * gathers for at in inbound)
