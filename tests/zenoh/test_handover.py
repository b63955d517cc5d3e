"""What comes in the library's threads is handed over in its order, in batches, and as much as there is room for."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import trio
import trio.lowlevel
import trio.testing

from taktora_trio import ZenohOptions
from taktora_trio.connectors.zenoh.handover import Handover
from taktora_trio.connectors.zenoh.nodes import open_node
from taktora_trio.connectors.zenoh.session import Quality, Sample
from taktora_trio.testing.zenoh.router import open_router
from tests.zenoh.knowing import until_known

MANY = 200
BURST, SIZE = 100_000, 500
BACKLOG = 2**20


async def test_the_loop_has_turns_between_the_batches_of_many() -> None:
    handover, heard, seen = Handover(MANY), list[int](), set[int]()
    for number in range(MANY):
        assert handover.take(heard.append, number, 1)
    assert not handover.take(heard.append, MANY, 1)  # there is no room
    with trio.fail_after(5):
        while len(heard) < MANY:
            await trio.lowlevel.checkpoint()
            seen.add(len(heard))
    assert heard == list(range(MANY))
    assert seen - {0, MANY}  # trio runs the tasks of a turn in any order, so two batches may come between two looks
    assert handover.take(heard.append, MANY, 1)


async def test_a_pause_amid_a_batch_holds_back_the_rest_and_keeps_the_order() -> None:
    handover, heard = Handover(MANY), list[int]()

    def take(number: int) -> None:
        heard.append(number)
        if number == 10:
            handover.pause()

    for number in range(MANY // 2):
        handover.take(take, number, 1)
    with trio.fail_after(5):
        while len(heard) < 11:
            await trio.lowlevel.checkpoint()
    for number in range(MANY // 2, MANY):
        handover.take(take, number, 1)
    await trio.testing.wait_all_tasks_blocked()
    assert heard == list(range(11))
    assert handover.take(take, MANY, 11)  # there is room again for as much as was handed over
    assert not handover.take(take, MANY + 1, 1)
    handover.resume()
    with trio.fail_after(5):
        while len(heard) < MANY + 1:
            await trio.lowlevel.checkpoint()
    assert heard == list(range(MANY + 1))


@pytest.mark.zenoh
async def test_a_burst_takes_bounded_memory_while_nothing_is_read(tmp_path: Path) -> None:
    heard, discarded, process = 0, 0, psutil.Process()

    def take(sample: Sample) -> None:
        nonlocal heard
        heard += 1

    def count(some: int) -> None:
        nonlocal discarded
        discarded += some

    async with (
        open_router(tmp_path) as router,
        open_node(ZenohOptions(connect=router.endpoint)) as sends,
        open_node(ZenohOptions(connect=router.endpoint, inbound_backlog=BACKLOG)) as receives,
        sends.open_session() as one,
        receives.open_session() as other,
    ):
        await other.subscribe("burst", take)
        other.watch_discarded(count)
        await until_known(one, other)
        other.pause()
        before, most, payload = process.memory_info().rss, 0, bytes(SIZE)
        with trio.fail_after(30):
            for number in range(BURST):
                one.put("burst", payload, Quality())
                if number % 64 == 0:
                    await one.flush()
                    most = max(most, process.memory_info().rss - before)
            await one.flush()
            while heard + discarded < BURST:
                other.resume()
                await trio.sleep(0.01)
                most = max(most, process.memory_info().rss - before)
        assert heard > 0
        assert most < BURST * SIZE / 3
