"""Who gets a core first. A kernel before 6.12 knows nothing of it, and these tests are skipped there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from taktora_trio.processes.parent.warm import Zygote
from taktora_trio.processes.time_slice import LONG, SHORT, set_time_slice, time_slice
from taktora_trio.transport.domain import Domain
from tests.command import open_run
from tests.mosquitto import Mosquitto
from tests.processes.children import LONG as PATIENCE
from tests.processes.children import POLICY, open_children, open_two_threads


def _usual() -> float:
    try:
        return time_slice()
    except OSError:
        return 0.0


USUAL = _usual()
pytestmark = pytest.mark.skipif(not USUAL, reason="this kernel has no time slices that are chosen")


@pytest.fixture
def other() -> Iterator[int]:
    with open_two_threads() as pid:
        yield pid


def _threads(pid: int) -> list[int]:
    return sorted(map(int, os.listdir(f"/proc/{pid}/task")))


def test_all_threads_get_it_and_give_it_back(other: int) -> None:
    assert len(_threads(other)) == 2
    for seconds, there in ((LONG, LONG), (0.0001, 0.0001), (None, USUAL)):
        set_time_slice(seconds, other)
        assert [time_slice(thread) for thread in _threads(other)] == [there, there]


def test_a_nice_value_stays(other: int) -> None:
    os.setpriority(os.PRIO_PROCESS, other, 7)
    set_time_slice(LONG, other)
    set_time_slice(None, other)
    assert (os.getpriority(os.PRIO_PROCESS, other), time_slice(other)) == (7, USUAL)


def test_who_is_scheduled_otherwise_stays_so(other: int) -> None:
    os.sched_setscheduler(other, os.SCHED_IDLE, os.sched_param(0))
    set_time_slice(LONG, other)
    assert (os.sched_getscheduler(other), time_slice(other)) == (os.SCHED_IDLE, USUAL)


def test_of_one_that_has_ended_nothing_changes() -> None:
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    process.wait()
    set_time_slice(LONG, process.pid)
    with pytest.raises(ProcessLookupError):
        time_slice(process.pid)


@pytest.mark.parametrize("starts_last", [False, True])
async def test_a_start_has_it_until_it_is_ready(starts_last: bool) -> None:
    """Not longer, and each start anew."""
    code = "os.write(pipe, b'started'); signal.sigwait([signal.SIGUSR1]); ready(); write('ready'); hang()"
    code = f"signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); {code}"
    slices: list[list[float]] = []
    async with open_children() as children, trio.open_nursery() as nursery:
        supervisor = children.supervisor(code, attrs.evolve(POLICY, restart="always"), starts_last=starts_last)
        nursery.start_soon(supervisor.run)
        for incarnation in (1, 2):
            children.written = b""
            await children.until_written(b"started")
            with trio.fail_after(PATIENCE):
                while len(children.pids) < incarnation:  # its supervisor does not know of it yet
                    await wait_all_tasks_blocked(0.01)
            slices.append([time_slice(children.pids[-1])])
            children.kill(signal.SIGUSR1)
            await children.until_written(b"ready")
            with trio.fail_after(PATIENCE):
                while supervisor.state.phase != "up":
                    await wait_all_tasks_blocked(0.01)
            slices[-1].append(time_slice(children.pids[-1]))
            children.kill(signal.SIGKILL)
        await children.until_written(b"started")
        nursery.cancel_scope.cancel()
    assert slices == [[LONG if starts_last else USUAL, USUAL]] * 2


async def test_a_process_that_is_forked_from_has_it_always() -> None:
    zygote = Zygote("signal:pause", [])
    await zygote.open()
    try:
        assert zygote._process is not None
        assert time_slice(zygote._process.pid) == LONG
    finally:
        await zygote.close()


@pytest.mark.parametrize("start", [[], ["--warm"]])
async def test_in_a_deployment_the_app_goes_first(start: list[str], broker: Mosquitto, domain: Domain) -> None:
    async with open_run("examples.echo:deployment", "split", broker, domain, *start) as run:
        await run.until_event("health-up")
        processes = (run.pid, run.half("plugin"), run.half("gateway"))
        assert [time_slice(pid) for pid in processes] == [SHORT, SHORT, USUAL]
        run.signal(signal.SIGTERM)
        assert await run.wait(8) == 0
