"""Threads and processes are real here, and so is the clock."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from taktora_trio import ConfigError
from taktora_trio.executor import Context, Executor, chain, every, in_process, in_thread
from tests.command import ROOT


async def stop(ctx: Context) -> None:
    ctx.stop()


async def nothing(ctx: Context) -> None:
    pass


@pytest.fixture(autouse=True)
def _children() -> Any:
    """The test fails if a worker outlives its executor; multiprocessing's resource tracker ends with us."""
    yield
    left = [child for child in psutil.Process().children() if "resource_tracker" not in " ".join(child.cmdline())]
    assert left == []


class Results:
    def __init__(self) -> None:
        self.record: list[Any] = []

    async def keep(self, ctx: Context, result: Any) -> None:
        self.record.append(result)


@pytest.mark.parametrize("offload", [in_thread, in_process])
async def test_arguments_go_in_and_the_result_comes_out(offload: Any) -> None:
    executor, results = Executor(), Results()
    item = offload(divmod, arguments=lambda ctx: (17 + ctx.wake.slot, 5), then=results.keep)
    executor.add(chain(item, stop), every(0.01), name="divide")
    with trio.fail_after(30):
        await executor.run()
    assert results.record == [(3, 2)]


@pytest.mark.parametrize("offload", [in_thread, in_process])
async def test_what_it_raises_is_the_items_failure(offload: Any) -> None:
    executor = Executor()
    executor.add(offload(divmod, arguments=lambda ctx: (1, 0)), every(1), name="divide")
    with trio.fail_after(30), pytest.raises(ZeroDivisionError):
        await executor.run()


@pytest.mark.parametrize("offload", [in_thread, in_process])
async def test_others_go_on_meanwhile(offload: Any) -> None:
    executor, ticks = Executor(), 0
    executor.add(chain(offload(time.sleep, arguments=lambda ctx: (0.5,)), stop), every(10), name="slow")

    @executor.item(every(0.01))
    async def tick(ctx: Context) -> None:
        nonlocal ticks
        ticks += 1

    with trio.fail_after(30):
        await executor.run()
    assert ticks > 5


async def test_a_process_is_a_process_and_is_used_again() -> None:
    executor, results = Executor(), Results()

    async def enough(ctx: Context) -> None:
        if len(results.record) == 3:
            ctx.stop()

    executor.add(chain(in_process(os.getpid, then=results.keep), enough), every(0.01), name="pid")
    with trio.fail_after(30):
        await executor.run()
    assert len(set(results.record)) == 1
    assert results.record[0] != os.getpid()
    assert not psutil.pid_exists(results.record[0])


async def test_a_process_that_takes_too_long_is_killed(tmp_path: Any) -> None:
    executor = Executor()
    note = in_process(note_and_hang, arguments=lambda ctx: (str(tmp_path / "pid"),), timeout=1)
    # Behind another call, for which the worker starts and imports this module: none of that is within the time limit.
    executor.add(chain(in_process(do_nothing), note), every(1), name="hang")
    with trio.fail_after(30), pytest.raises(trio.TooSlowError, match=r"in_process\(note_and_hang\) took longer"):
        await executor.run()
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


async def test_a_process_is_killed_with_its_executor(tmp_path: Any) -> None:
    executor, pid = Executor(), tmp_path / "pid"
    executor.add(in_process(note_and_hang, arguments=lambda ctx: (str(pid),)), every(1), name="hang")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(executor.run)
            await until_written(pid)
            nursery.cancel_scope.cancel()
    assert not psutil.pid_exists(int(pid.read_text()))


async def test_a_process_that_crashes_is_a_failure_and_the_next_one_works() -> None:
    executor, results = Executor(), Results()

    def pick(ctx: Context) -> tuple[bool]:
        return (ctx.executor.stats()["crash"].count == 0,)

    executor.add(
        chain(in_process(crash_if, arguments=pick, then=results.keep), stop),
        every(0.01),
        name="crash",
        on_failure="skip",
    )
    with trio.fail_after(30):
        await executor.run()
    assert executor.stats()["crash"].failures == 1
    assert results.record == ["well"]


def is_written(path: Path) -> bool:
    return path.exists() and bool(path.read_text())


async def until_written(path: Path) -> None:
    while not await trio.to_thread.run_sync(is_written, path):  # noqa: ASYNC110 - a file announces nothing
        await trio.sleep(0.02)


def do_nothing() -> None:
    pass


def note_and_hang(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    while True:
        pass


def crash_if(crash: bool) -> str:
    if crash:
        os.kill(os.getpid(), signal.SIGSEGV)
    return "well"


ORPHAN = """
import sys, trio
from taktora_trio.executor import Executor, every, in_process
from tests.executor.test_offload import note_and_hang

if __name__ == "__main__":
    executor = Executor()
    executor.add(in_process(note_and_hang, arguments=lambda ctx: (sys.argv[1],)), every(1))
    trio.run(executor.run)
"""


async def test_a_process_that_computes_ends_with_a_parent_that_is_killed(tmp_path: Any) -> None:
    program, pid = tmp_path / "orphan.py", tmp_path / "pid"
    program.write_text(ORPHAN)
    with trio.fail_after(40):
        process = await trio.lowlevel.open_process(
            [sys.executable, str(program), str(pid)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            await until_written(pid)
            worker = psutil.Process(int(pid.read_text()))
        finally:
            process.kill()
            await process.wait()
        await trio.to_thread.run_sync(worker.wait)


async def test_a_thread_that_takes_too_long_is_left_alone_and_they_do_not_pile_up() -> None:
    go, calls = threading.Event(), list[int]()

    def block() -> None:
        calls.append(1)
        go.wait(30)

    executor = Executor()
    executor.add(in_thread(block, timeout=0.1), every(0.01), name="block", on_failure="skip")

    @executor.item(every(0.05))
    async def watch(ctx: Context) -> None:
        if ctx.executor.stats()["block"].failures == 3 and not go.is_set():
            assert calls == [1]  # the others waited for it in vain
            go.set()
        if len(calls) > 2:
            ctx.stop()

    try:
        with trio.fail_after(30):
            await executor.run()
    finally:
        go.set()


async def test_a_thread_can_look_whether_it_is_cancelled() -> None:
    ended = threading.Event()

    def patient() -> None:
        try:
            while True:
                trio.from_thread.check_cancelled()
                time.sleep(0.01)
        finally:
            ended.set()

    executor = Executor()
    executor.add(in_thread(patient, timeout=0.1), every(1))
    with trio.fail_after(30), pytest.raises(trio.TooSlowError):
        await executor.run()
    assert await trio.to_thread.run_sync(ended.wait, 10)


async def test_a_limiter_can_be_shared() -> None:
    limiter, executor, at_once, most = trio.CapacityLimiter(2), Executor(), 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        with lock:
            at_once -= 1

    async def enough(ctx: Context) -> None:
        if sum(stats.count for stats in ctx.executor.stats().values()) > 8:
            ctx.stop()

    for number in range(5):
        executor.add(chain(in_thread(work, limiter=limiter), enough), every(0.001), name=f"work{number}")
    with trio.fail_after(30):
        await executor.run()
    assert most == 2


@pytest.mark.parametrize("offload", [in_thread, in_process])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"function": stop}, "is async"),
        ({"function": 1}, "can't be called"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": math.nan}, "timeout is nan"),
        ({"then": print}, "is no async function"),
    ],
)
def test_what_cannot_be_offloaded(offload: Any, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        offload(**{"function": print, **arguments})


def test_in_process_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio_parallel", None)
    with pytest.raises(ConfigError, match=r"taktora-trio\[parallel\]"):
        in_process(print)
