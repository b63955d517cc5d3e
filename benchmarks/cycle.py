"""The cost of the executor for a cycle: the same work by a hand-written loop, by its loop, and with its figures.

    python -m benchmarks.cycle [--quick]

The work is nothing, and the trigger always has a message, so that all which is measured is overhead. "Figures" is what
the statistics cost: clock readings, and `Statistics.record`, in a bare loop beside one without.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Awaitable, Callable

import trio

from benchmarks.report import Figure, table
from taktora_trio.executor import Executor, Observer, on_message
from taktora_trio.executor.stats import Statistics

__all__ = ["measure_cycle"]


class _Endless:
    """A reader that always has a message, until so many have been taken."""

    is_closed = is_behind = False

    def __init__(self, messages: int) -> None:
        self._left = messages

    def receive_nowait(self) -> int:
        if self._left == 0:
            raise trio.EndOfChannel
        self._left -= 1
        return self._left

    async def wait(self) -> None:
        raise AssertionError("there is always something")


async def _nothing(ctx: object) -> None:
    pass


async def _by_hand(cycles: int) -> None:
    """Run the loop that one writes without it: receive, work, let others have their turn."""
    reader = _Endless(cycles)
    while True:
        try:
            message = reader.receive_nowait()
        except trio.EndOfChannel:
            return
        await _nothing(message)
        await trio.lowlevel.checkpoint()


async def _by_hand_with_figures(cycles: int) -> None:
    reader, figures = _Endless(cycles), Statistics(1024)
    while True:
        due = started = trio.current_time()
        try:
            message = reader.receive_nowait()
        except trio.EndOfChannel:
            return
        await _nothing(message)
        figures.record(trio.current_time() - started, started - due)
        await trio.lowlevel.checkpoint()


async def _by_executor(cycles: int, *observers: Observer) -> None:
    executor = Executor(observers=observers)
    executor.add(_nothing, on_message(_Endless(cycles)))
    await executor.run()


class _Watching(Observer):
    def cycle(self, item: str, cycle: object) -> None:
        pass


async def _observed(cycles: int) -> None:
    await _by_executor(cycles, _Watching())


async def measure_cycle(rounds: int, cycles: int = 20_000) -> list[Figure]:
    """Measure all in turn, round after round, since neighbours in time share the machine's mood."""
    contenders: list[Callable[[int], Awaitable[None]]] = [_by_hand, _by_hand_with_figures, _by_executor, _observed]
    times: list[list[float]] = [[] for _ in contenders]
    for number in range(rounds + 1):
        for contender, taken in zip(contenders, times, strict=True):
            started = time.perf_counter()
            await contender(cycles)
            if number:  # the first warms up
                taken.append((time.perf_counter() - started) / cycles * 1e6)
    hand, figures, executor, observed = times

    def figure(what: str, ours: list[float], theirs: list[float], target: float) -> Figure:
        return Figure(
            what=what,
            measured=statistics.median(our - their for our, their in zip(ours, theirs, strict=True)),
            target=target,
            unit="us",
            at_most=True,
            beside=f"{statistics.median(ours):.2f} - {statistics.median(theirs):.2f} us",
        )

    asked = Statistics(1024)
    for number in range(1024):
        asked.record(number % 97 / 1e4, number % 89 / 1e4)
    started = time.perf_counter()
    for _ in range(50):
        asked.read()
    reading = (time.perf_counter() - started) / 50 * 1e6
    return [
        figure("figures of a cycle: loop with them - loop without", figures, hand, 5.0),
        figure("all of a cycle: executor - loop by hand", executor, hand, 15.0),
        figure("an observer of every cycle: executor with it - without", observed, executor, 5.0),
        Figure(
            what="asking for an item's figures, a full window of 1024",
            measured=reading,
            target=2000.0,
            unit="us",
            at_most=True,
            beside="sorts three windows, only when asked",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cycle", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    print(table(trio.run(measure_cycle, 5 if options.quick else 25)))


if __name__ == "__main__":
    main()
