"""What a broker acknowledges is held up, and nothing else; of each kind the order stays."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator

import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock, memory_stream_one_way_pair

from taktora_trio.testing.mqtt.acknowledging import Acknowledging

PUBACK, PUBREC, PUBCOMP = b"\x40\x02\x00\x01", b"\x50\x02\x00\x02", b"\x70\x02\x00\x02"
PUBLISH = b"\x30\xc8\x01" + b"\0\1t" + b"x" * 197


@contextlib.asynccontextmanager
async def handing_on(acknowledging: Acknowledging) -> AsyncIterator[tuple[MemorySendStream, list[tuple[float, bytes]]]]:
    came: list[tuple[float, bytes]] = []

    async def send(data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        came.append((trio.current_time() - start, data))

    start = trio.current_time()
    broker, stream = memory_stream_one_way_pair()
    assert isinstance(stream, MemoryReceiveStream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(acknowledging.hand_on, stream, send)
        yield broker, came
        nursery.cancel_scope.cancel()


async def test_without_a_delay_all_passes_at_once_and_in_order(autojump_clock: MockClock) -> None:
    async with handing_on(Acknowledging()) as (broker, came):
        await broker.send_all(PUBACK + PUBLISH + PUBREC)
        await trio.sleep(1)
        assert came == [(0, PUBACK + PUBLISH + PUBREC)]


async def test_only_what_ends_the_wait_for_a_message_is_held_up(autojump_clock: MockClock) -> None:
    acknowledging = Acknowledging()
    acknowledging.set_delay(2)
    async with handing_on(acknowledging) as (broker, came):
        await broker.send_all(PUBACK + PUBLISH[:150])
        await trio.sleep(1)
        await broker.send_all(PUBLISH[150:] + PUBREC + PUBCOMP)
        await trio.sleep(5)
        assert came == [(1, PUBLISH + PUBCOMP), (2, PUBACK), (3, PUBREC)]


async def test_what_is_held_up_for_ever_comes_when_that_is_over(autojump_clock: MockClock) -> None:
    acknowledging = Acknowledging()
    acknowledging.set_delay(math.inf)
    async with handing_on(acknowledging) as (broker, came):
        await broker.send_all(PUBACK + PUBREC)
        await trio.sleep(1000)
        assert came == []
        acknowledging.set_delay(0)
        await trio.sleep(1)
        assert came == [(1000, PUBACK), (1000, PUBREC)]


async def test_the_end_of_either_side_is_no_error() -> None:
    async with handing_on(Acknowledging()) as (broker, came):
        await broker.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert came == []

    async def refuse(data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError

    broker, stream = memory_stream_one_way_pair()
    await broker.send_all(PUBACK)
    await Acknowledging().hand_on(stream, refuse)
