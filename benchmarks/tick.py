"""How late a tick is that has nothing to wait for but the time: the executor's `every`, beside bare loops.

    python -m benchmarks.tick [--quick]

All run in this process, by turns, on a grid of 10 ms and on one of 1 ms, where each tick does nothing. `sleep_until` is
trio's own wait in a loop; `timerfd` is a timer of the kernel's that is waited for by `wait_readable`, alone.
The process is set up as the commands set up that of an app. Lateness is from the time of a slot to the start of its
cycle. A slot that comes while the one before still runs is skipped by the executor, and run late by a bare loop.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio

if not __package__:  # started as a file: then this folder is where imports are looked for, not the project's
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.report import Figure, grid, machine, percentile, table
from taktora_trio.executor import Context, Executor, any_of, every, on_message
from taktora_trio.executor.timerfd import create_timer, set_timer
from taktora_trio.runners.this_process.punctual import be_punctual

__all__ = ["measure_tick"]

_TURN = 3.0  # seconds
_WARM_UP = 20  # slots that do not count


@attrs.define
class Measured:
    """What one contender did on one grid, in all its turns."""

    lateness: list[float] = attrs.field(factory=list)
    """In milliseconds, of each slot that ran."""
    skipped: int = 0
    cpu: float = 0.0
    """CPU time of the process in seconds."""


async def _executor(period: float, slots: int, beside: bool = False) -> tuple[list[float], int]:
    executor, late = Executor(window=1), list[float]()
    _, never = trio.open_memory_channel[None](0)

    @executor.item(any_of(every(period), on_message(never)) if beside else every(period))
    async def tick(ctx: Context) -> None:
        late.append(trio.current_time() - ctx.due)
        if len(late) >= slots:
            ctx.stop()

    await executor.run()
    return late, executor.stats()["tick"].skipped


async def _executor_beside(period: float, slots: int) -> tuple[list[float], int]:
    return await _executor(period, slots, beside=True)


async def _sleep_until(period: float, slots: int) -> tuple[list[float], int]:
    late, due = [], trio.current_time()
    for _ in range(slots):
        due += period
        await trio.sleep_until(due)
        late.append(trio.current_time() - due)
    return late, 0


async def _timerfd(period: float, slots: int) -> tuple[list[float], int]:
    late, due, fd = [], time.monotonic(), create_timer()
    for _ in range(slots):
        due += period
        set_timer(fd, due)
        await trio.lowlevel.wait_readable(fd)
        late.append(time.monotonic() - due)
    os.close(fd)
    return late, 0


Contender = Callable[[float, int], Awaitable[tuple[list[float], int]]]
CONTENDERS: dict[str, Contender] = {
    "every": _executor,
    "any_of(every, on_message)": _executor_beside,
    "sleep_until": _sleep_until,
    "timerfd": _timerfd,
}


async def measure_tick(turns: int) -> dict[tuple[float, str], Measured]:
    """Measure all on both grids, turn after turn, since neighbours in time share the machine's mood."""
    found = {(period, name): Measured() for period in (0.01, 0.001) for name in CONTENDERS}
    for _ in range(turns):
        for (period, name), measured in found.items():
            before = time.process_time()
            late, skipped = await CONTENDERS[name](period, round(_TURN / period))
            measured.cpu += time.process_time() - before
            measured.lateness += [seconds * 1000 for seconds in late[_WARM_UP:]]
            measured.skipped += skipped
    return found


def _rows(found: dict[tuple[float, str], Measured]) -> list[list[str]]:
    rows = [["grid, ms", "waits by", "p50, ms late", "p99", "p99.9", "worst", "slots", "skipped", "CPU us a slot"]]
    for (period, name), measured in found.items():
        late, count = measured.lateness, len(measured.lateness)
        figures = [f"{percentile(late, share):.3f}" for share in (0.5, 0.99, 0.999, 1)]
        cpu = f"{measured.cpu / count * 1e6:.0f}"
        rows.append([f"{period * 1000:g}", name, *figures, f"{count:,}", f"{measured.skipped:,}", cpu])
    return rows


def _figures(found: dict[tuple[float, str], Measured]) -> list[Figure]:
    slow, fast = found[0.01, "every"], found[0.001, "every"]

    def late(measured: Measured, what: str, share: float, target: float) -> Figure:
        bare = found[0.01 if measured is slow else 0.001, "sleep_until"].lateness
        return Figure(
            what=f"a tick of {what} late",
            measured=percentile(measured.lateness, share),
            target=target,
            unit="ms",
            at_most=True,
            beside=f"{percentile(measured.lateness, share):.3f} / {percentile(bare, share):.3f} ms by sleep_until",
        )

    slots = len(fast.lateness) + fast.skipped
    return [
        late(slow, "10 ms, p50", 0.5, 0.15),
        late(slow, "10 ms, p99.9", 0.999, 1.0),
        late(fast, "1 ms, p99", 0.99, 0.5),
        Figure(
            what="slots of 1 ms that are skipped, of 10,000",
            measured=fast.skipped / slots * 10_000,
            target=1.0,
            unit="",
            at_most=True,
            beside=f"{fast.skipped} of {slots:,}",
        ),
    ]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tick", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer turns: a minute instead of five")
    options = parser.parse_args()
    print(machine())
    be_punctual()
    found = trio.run(measure_tick, 2 if options.quick else 12)
    print(grid(_rows(found)))
    print()
    print(table(_figures(found)))


if __name__ == "__main__":
    main()
