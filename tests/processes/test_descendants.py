"""Descendants and the reaper alone, in a process that may be a subreaper. (test_process has them in use.)"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio

from taktora_trio.processes.parent.descendants import Descendants
from tests.processes.children import LONG

ROOT = Path(__file__).parent.parent.parent

# The children tell by a pipe that they are there; at its end of file all that had it have ended.
PRELUDE = """
import os, signal, subprocess, sys
import psutil, trio
from taktora_trio.processes.parent.descendants import Descendants
from taktora_trio.processes.parent.subreaper import Reaper, become_subreaper, children

become_subreaper()
reading, writing = os.pipe()

def start(descendants, code):
    prepared = f"import os, signal, time; pipe = {writing}; os.write(pipe, b'.'); {code}"
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", prepared],
        env={**os.environ, **descendants.environment},
        pass_fds=[writing],
    )

def until_started(count):
    heard = 0
    while heard < count: heard += len(os.read(reading, 100))

def until_all_ended():
    os.close(writing)
    while os.read(reading, 100): pass

def left():
    return sorted(pid for pid, _ in children())
"""


async def run(code: str) -> list[str]:
    """Run it; return the words that it prints."""
    with trio.fail_after(LONG):
        process = await trio.run_process([sys.executable, "-c", PRELUDE + code], capture_stdout=True, cwd=ROOT)
    return bytes(process.stdout).decode().split()


def test_each_has_a_mark_of_its_own() -> None:
    assert Descendants("a").environment != Descendants("b").environment


async def test_without_any_it_is_over_at_once() -> None:
    assert await Descendants("nobody-has-this").end() == []


async def test_only_those_with_the_mark_are_ended() -> None:
    code = """
ours, others = Descendants("ours"), Descendants("ours-too")
mine = [start(ours, "time.sleep(99)") for _ in range(3)]
other = start(others, "time.sleep(99)")
until_started(4)
ended = trio.run(ours.end)
print(sorted(ended) == sorted(child.pid for child in mine), left() == [other.pid], other.poll())
print(trio.run(ours.end), trio.run(others.end) == [other.pid], left())
"""
    assert await run(code) == ["True", "True", "None", "[]", "True", "[]"]


@pytest.mark.parametrize("ignoring", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    "])
async def test_whole_trees_are_ended_generation_by_generation(ignoring: str) -> None:
    code = f'''
tree = """
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        os.fork()
        {ignoring.strip() or "pass"}
        os.write(pipe, b'.')
        while True: signal.pause()
while True: signal.pause()
"""
child = start(Descendants("ours"), "exec(%r)" % tree)
until_started(5)
ended = trio.run(Descendants("ours").end)
print(len(ended), child.pid in ended, left())
until_all_ended()
'''
    assert await run(code) == ["5", "True", "[]"]


async def test_one_that_was_just_started_is_looked_at_again() -> None:
    """The kernel shows no environment of a process within execve(2), which is here for three looks."""
    code = """
looks, kind = [], Descendants._kind
Descendants._kind = lambda self, pid: looks.append(pid) or ("executing" if len(looks) <= 3 else kind(self, pid))
child = start(Descendants("ours"), "time.sleep(99)")
until_started(1)
print(trio.run(Descendants("ours").end) == [child.pid], left())
"""
    assert await run(code) == ["True", "[]"]


async def test_only_execve_counts_as_such() -> None:
    code = """
start(Descendants("ours"), "time.sleep(99)")
until_started(1)
wait = f"import os, time; os.write({writing}, b'.'); time.sleep(99)"
bare = subprocess.Popen([sys.executable, "-I", "-S", "-c", wait], env={}, pass_fds=[writing])
until_started(1)
print(*(Descendants("ours")._kind(pid) for pid in left()))
trio.run(Descendants("ours").end)
bare.kill()
"""
    assert await run(code) == ["marked", "other"]


async def test_who_has_lost_its_parent_is_ours() -> None:
    code = """
# Its child, for which it waits, starts another one.
double_fork = "os.wait() if os.fork() else (os.setsid(), os.fork() or (os.write(pipe, b'.'), time.sleep(99)))"
start(Descendants("ours"), double_fork).wait()
until_started(2)
ended = trio.run(Descendants("ours").end)
until_all_ended()
Reaper().reap()
print(len(ended), left())
"""
    assert await run(code) == ["1", "[]"]


ADOPTING = """
# Each starts another one, which outlives it by as long as it takes to read the end of a pipe, and so is left to us.
def adopt(count):
    tell, told = os.pipe()
    code = f"import os; os.fork() or (os.close({told}), os.read({tell}, 1), os._exit(0))"
    for _ in range(count):
        subprocess.run([sys.executable, "-I", "-S", "-c", code], pass_fds=[tell, told])
    os.close(tell)
    return told

async def until(done):
    with trio.fail_after(30):
        while not done(): await trio.sleep(0.01)  # a zombie that is gone announces itself to nobody

def zombies():
    return sorted(pid for pid, is_zombie in children() if is_zombie)
"""


async def test_who_was_left_to_us_is_waited_for_when_it_ends_and_our_own_are_not() -> None:
    code = """
async def main():
    before = start(Descendants("a"), "os._exit(7)")
    os.waitid(os.P_PID, before.pid, os.WEXITED | os.WNOWAIT)
    reaper = Reaper()
    told = adopt(5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reaper.serve)
        with reaper.starting():
            own = start(Descendants("a"), "os._exit(8)")
            os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOWAIT)
            print(len(left()))
            os.close(told)
            await until(lambda: len(zombies()) == 7)
            reaper.started(own.pid)
        await until(lambda: zombies() == sorted([before.pid, own.pid]))
        print(before.wait(), own.wait(), left())
        os.close(adopt(5))
        await until(lambda: not left())
        print("none")
        nursery.cancel_scope.cancel()

trio.run(main)
"""
    assert await run(ADOPTING + code) == ["7", "7", "8", "[]", "none"]


async def test_how_a_child_of_our_own_ended_is_never_lost() -> None:
    """Children that end at once, while others are waited for all the time."""
    code = """
async def one(reaper, number):
    with reaper.starting():
        process = await trio.lowlevel.open_process(["sh", "-c", f"(exit 1 &) ; exit {number}"])
        reaper.started(process.pid)
    assert await process.wait() == number
    reaper.ended(process.pid)

async def main():
    reaper = Reaper()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reaper.serve)
        for _ in range(5):
            async with trio.open_nursery() as batch:
                for number in range(8):
                    batch.start_soon(one, reaper, number)
        await until(lambda: not left())
        nursery.cancel_scope.cancel()
    print("all", *left())

trio.run(main)
"""
    assert await run(ADOPTING + code) == ["all"]
