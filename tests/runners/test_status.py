from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from taktora_trio.health import Connecting, Down, HealthBoard, Up
from taktora_trio.processes.child.life_signs import LifeSigns
from taktora_trio.runners.parts.status import StatusLine, tell_health


class Told(LifeSigns):
    """Keeps what it tells, and when."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self.record: list[tuple[float, str]] = []

    async def status(self, status: str, *, extend: float | None = None) -> None:
        await trio.lowlevel.checkpoint()
        self.record.append((round(trio.current_time(), 3), status))

    def close(self) -> None:
        self._socket.close()


async def test_the_health_of_each_connector_is_told_as_it_changes(autojump_clock: MockClock) -> None:
    board, life = HealthBoard(["a", "b"]), Told()
    async with trio.open_nursery() as nursery:
        events = board.events()
        nursery.start_soon(tell_health, life, board.states, events, "the app runs; ")
        await trio.sleep(1)
        board.report("a", Up())
        await trio.sleep(1)
        for _ in range(100):  # what was so for a moment only may be left out
            board.report("a", Connecting())
            board.report("a", Up())
            await trio.sleep(0.001)
        await trio.sleep(0.5)  # none of them is kept: they would keep what they were caused by
        with pytest.raises(trio.WouldBlock):
            events.receive_nowait()
        board.report("b", Down("refused\x1b[2J", next_attempt=61.0))
        await trio.sleep(1)
        board.close()
    life.close()
    assert life.record[:2] == [
        (0.0, "the app runs; a: Connecting; b: Connecting"),
        (1.0, "the app runs; a: Up; b: Connecting"),
    ]
    assert len(life.record) <= 5
    assert life.record[-1][1].endswith("a: Up; b: Down (refused\\x1b[2J; next attempt at 1970-01-01 00:01:01 UTC)")


async def test_of_a_flood_of_statuses_the_newest_is_told(autojump_clock: MockClock) -> None:
    line, life = StatusLine(), Told()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.tell, life)
        for number in range(1000):
            line.say(f"{number}\n")
            await trio.sleep(0.001)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    life.close()
    assert len(life.record) <= 7
    assert life.record[-1][1] == "999\\n"
