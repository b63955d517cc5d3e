"""Starting behind all others. Where we may not take that back, it is not done, and most of these tests are skipped."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio.processes.parent import start_last
from taktora_trio.processes.parent.start_last import StartsLast, may_leave_idle
from tests.processes.children import LONG as PATIENCE
from tests.processes.children import POLICY, open_children, open_two_threads

NOBODY = 65534
may = pytest.mark.skipif(not may_leave_idle(), reason="this user may not take SCHED_IDLE back")


@pytest.fixture
def other() -> Iterator[int]:
    with open_two_threads() as pid:
        yield pid


def _policies(pid: int) -> list[int]:
    return [os.sched_getscheduler(int(thread)) for thread in sorted(os.listdir(f"/proc/{pid}/task"), key=int)]


@may
def test_all_threads_are_idle_until_it_ends(other: int) -> None:
    os.setpriority(os.PRIO_PROCESS, other, 7)
    starting = StartsLast(other)
    assert _policies(other) == [os.SCHED_IDLE, os.SCHED_IDLE]
    starting.end()
    starting.end()
    assert _policies(other) == [os.SCHED_OTHER, os.SCHED_OTHER]
    assert os.getpriority(os.PRIO_PROCESS, other) == 7


@may
def test_who_is_scheduled_otherwise_stays_so(other: int) -> None:
    os.sched_setscheduler(other, os.SCHED_BATCH, os.sched_param(0))
    starting = StartsLast(other)
    assert _policies(other) == [os.SCHED_BATCH, os.SCHED_IDLE]
    starting.end()
    assert _policies(other) == [os.SCHED_BATCH, os.SCHED_OTHER]


@may
async def test_one_that_does_not_get_ready_is_idle_for_a_second(other: int, autojump_clock: MockClock) -> None:
    starting = StartsLast(other)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(starting.serve)
        await trio.sleep(0.99)
        assert _policies(other) == [os.SCHED_IDLE, os.SCHED_IDLE]
    assert trio.current_time() == pytest.approx(1.0)
    assert _policies(other) == [os.SCHED_OTHER, os.SCHED_OTHER]


def test_of_one_that_has_ended_nothing_changes() -> None:
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    process.wait()
    StartsLast(process.pid).end()


def test_where_it_could_not_be_taken_back_it_is_not_done(other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_last, "may_leave_idle", lambda: False)
    StartsLast(other)
    assert _policies(other) == [os.SCHED_OTHER, os.SCHED_OTHER]


def _nobody() -> None:
    os.setgroups([])
    os.setuid(NOBODY)


def _nobody_with_a_limit() -> None:
    resource.setrlimit(resource.RLIMIT_NICE, (20, 20))
    _nobody()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("become", [lambda: None, _nobody, _nobody_with_a_limit], ids=["root", "nobody", "by a limit"])
def test_what_is_said_to_be_allowed_is_what_the_kernel_allows(become: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            try:
                become()
            except (OSError, ValueError):
                os._exit(4)
            said = may_leave_idle()
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            try:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            except PermissionError:
                code = 1 if said else 0
            else:
                code = 0 if said else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 4:
        pytest.skip("this root may not become so")
    assert code == 0


@may
async def test_each_start_has_it_until_it_is_ready() -> None:
    code = "os.write(pipe, b'started'); signal.sigwait([signal.SIGUSR1]); ready(); write('ready'); hang()"
    code = f"signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); {code}"
    policies: list[list[int]] = []
    async with open_children() as children, trio.open_nursery() as nursery:
        # What it has after the call that gives it is what counts, for a second may be over on a busy machine.
        children.on_start = lambda: policies.append(_policies(children.pids[-1]))
        supervisor = children.supervisor(code, attrs.evolve(POLICY, restart="always"), starts_last=True)
        nursery.start_soon(supervisor.run)
        for incarnation in (1, 2):
            children.written = b""
            await children.until_written(b"started")
            with trio.fail_after(PATIENCE):
                while len(children.pids) < incarnation:  # its supervisor does not know of it yet
                    await wait_all_tasks_blocked(0.01)
            children.kill(signal.SIGUSR1)
            await children.until_written(b"ready")
            with trio.fail_after(PATIENCE):
                while supervisor.state.phase != "up":
                    await wait_all_tasks_blocked(0.01)
            policies.append(_policies(children.pids[-1]))
            children.kill(signal.SIGKILL)
        await children.until_written(b"started")
        nursery.cancel_scope.cancel()
    assert policies[:4] == [[os.SCHED_IDLE], [os.SCHED_OTHER]] * 2
