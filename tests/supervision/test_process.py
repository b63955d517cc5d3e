from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
import trio

from taktora_trio import Backoff, RestartPolicy
from taktora_trio.supervision.policy import Decision, Finish, GiveUp, Restart
from taktora_trio.supervision.process import ProcessExit, supervise_process, wait_for_exit

BACKOFF = Backoff(initial=0.01, maximum=0.04, factor=2, jitter=0)
POLICY = RestartPolicy(backoff=BACKOFF, stop_grace=20)


@attrs.define
class Child:
    """Supervises processes that write to `pipe`, and records what the supervisor told."""

    _reading: trio.lowlevel.FdStream
    _writing: int
    pids: list[int] = attrs.field(factory=list)
    exits: list[tuple[ProcessExit, Decision]] = attrs.field(factory=list)
    on_exit: Callable[[], None] = lambda: None
    _written: bytes = b""

    async def supervise(self, code: str, policy: RestartPolicy = POLICY, **options: Any) -> ProcessExit:
        def on_exit(exit_: ProcessExit, decision: Decision) -> None:
            self.exits.append((exit_, decision))
            self.on_exit()

        prepared = f"import os, signal, sys; pipe = {self._writing}\n{code}"
        options = {"pass_fds": [self._writing], "on_start": self.pids.append, "on_exit": on_exit, **options}
        with trio.fail_after(30):
            return await supervise_process("child", [sys.executable, "-I", "-S", "-c", prepared], policy, **options)

    async def until_written(self, data: bytes) -> None:
        with trio.fail_after(30):
            while data not in self._written:
                self._written += await self._reading.receive_some()

    async def until_all_ended(self) -> bytes:
        """Wait until no process has the pipe any more, of whatever generation; return what they wrote."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
        with trio.fail_after(30):
            while data := await self._reading.receive_some():
                self._written += data
        return self._written


@contextlib.asynccontextmanager
async def open_child() -> AsyncIterator[Child]:
    """The block fails if it leaves a process behind."""
    reading, writing = os.pipe()
    async with trio.lowlevel.FdStream(reading) as stream:
        child = Child(stream, writing)
        yield child
        await child.until_all_ended()
        assert [pid for pid in child.pids if psutil.pid_exists(pid)] == []


async def cancelled_once_written(child: Child, data: bytes, code: str, policy: RestartPolicy = POLICY) -> float:
    """Supervise until `data` was written, then cancel; return how long the end took."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child.supervise, code, policy)
        await child.until_written(data)
        nursery.cancel_scope.cancel()
        cancelled = trio.current_time()
    return trio.current_time() - cancelled


async def test_exit_code_0_is_the_end_under_on_failure() -> None:
    async with open_child() as child:
        assert await child.supervise("os.write(pipe, b'x')") == ProcessExit(0)
        assert child.exits == [(ProcessExit(0), Finish())]
        assert await child.until_all_ended() == b"x"


async def test_a_crash_is_started_again_until_it_succeeds(tmp_path: Path) -> None:
    code = f"""
run = len(os.listdir({str(tmp_path)!r}))
open({str(tmp_path)!r} + f'/{{run}}', 'w').close()
if run == 0: sys.exit(3)
if run == 1: os.kill(os.getpid(), signal.SIGKILL)
"""
    async with open_child() as child:
        assert await child.supervise(code) == ProcessExit(0)
        assert child.exits == [
            (ProcessExit(3), Restart(0.01)),
            (ProcessExit(-9), Restart(0.02)),
            (ProcessExit(0), Finish()),
        ]
        assert len(set(child.pids)) == 3


async def test_always_starts_a_success_again_and_gives_up_beyond_its_intensity() -> None:
    policy = RestartPolicy(restart="always", backoff=BACKOFF, intensity=2, period=300)
    async with open_child() as child:
        assert await child.supervise("os.write(pipe, b'x')", policy) == ProcessExit(0)
        assert [decision for _, decision in child.exits] == [
            Restart(0.01),
            Restart(0.02),
            GiveUp("it ended 3 times within 300 s"),
        ]
        assert await child.until_all_ended() == b"xxx"


async def test_an_exit_code_that_means_never_again() -> None:
    async with open_child() as child:
        policy = RestartPolicy(restart="always", backoff=BACKOFF)
        assert await child.supervise("sys.exit(2)", policy, never_restart_codes=[2]) == ProcessExit(2)
        assert child.exits == [(ProcessExit(2), GiveUp("exit code 2"))]


async def test_cancellation_sends_sigterm_and_waits(caplog: pytest.LogCaptureFixture) -> None:
    code = """
def end(*_):
    os.write(pipe, b'T')
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
os.write(pipe, b'.')
while True: signal.pause()
"""
    async with open_child() as child:
        await cancelled_once_written(child, b".", code)
        assert await child.until_all_ended() == b".T"
        assert child.exits == []
    assert "killed" not in caplog.text


async def test_who_ignores_sigterm_is_killed_after_the_grace(caplog: pytest.LogCaptureFixture) -> None:
    code = """
signal.signal(signal.SIGTERM, lambda *_: os.write(pipe, b'T'))
os.write(pipe, b'.')
while True: signal.pause()
"""
    async with open_child() as child:
        took = await cancelled_once_written(child, b".", code, RestartPolicy(stop_grace=0.2))
        assert 0.2 <= took < 15
        assert await child.until_all_ended() == b".T"
    assert "child: did not stop within 0.2 s, so it is killed" in caplog.text


GRANDCHILD = """
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(pipe, b'g')
    while True: signal.pause()
"""


async def test_grandchildren_are_ended_when_the_process_is_cancelled() -> None:
    async with open_child() as child:
        await cancelled_once_written(child, b"g", f"{GRANDCHILD}\nsignal.pause()")
        await child.until_all_ended()


async def test_grandchildren_are_ended_when_the_process_has_ended_by_itself() -> None:
    async with open_child() as child:
        assert await child.supervise(f"{GRANDCHILD}\nos._exit(0)") == ProcessExit(0)
        await child.until_all_ended()


async def test_the_process_leads_a_group_of_its_own() -> None:
    async with open_child() as child:
        await child.supervise("os.write(pipe, b'%d %d' % (os.getpgid(0), os.getpid()))")
        group, pid = (await child.until_all_ended()).split()
        assert group == pid
        assert int(group) != os.getpgid(0)


async def test_cancelled_during_the_delay_it_ends_at_once() -> None:
    policy = RestartPolicy(backoff=Backoff(initial=3600, maximum=3600))
    async with open_child() as child:
        with trio.CancelScope() as scope:
            child.on_exit = scope.cancel
            await child.supervise("sys.exit(1)", policy)
        assert scope.cancelled_caught
        assert [exit_ for exit_, _ in child.exits] == [ProcessExit(1)]


async def test_an_error_of_the_owner_ends_the_process() -> None:
    def fail(pid: int) -> None:
        raise ZeroDivisionError

    async with open_child() as child:
        with pytest.raises(ZeroDivisionError):
            await child.supervise("signal.pause()", on_start=fail)


async def test_the_environment_is_what_was_given() -> None:
    async with open_child() as child:
        await child.supervise("os.write(pipe, os.environ['GREETING'].encode())", env={"GREETING": "hello"})
        assert await child.until_all_ended() == b"hello"


async def test_a_command_that_does_not_exist() -> None:
    with pytest.raises(FileNotFoundError):
        await supervise_process("child", ["/nonexistent/command"], POLICY)


@pytest.mark.parametrize(
    ("returncode", "failed", "text"),
    [
        (0, False, "exit code 0"),
        (2, True, "exit code 2"),
        (-15, True, "killed by SIGTERM"),
        (-63, True, "killed by signal 63"),
    ],
)
def test_an_exit_says_how(returncode: int, failed: bool, text: str) -> None:
    assert (ProcessExit(returncode).failed, str(ProcessExit(returncode))) == (failed, text)


async def test_wait_for_exit_of_a_process_that_is_no_child() -> None:
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], stdout=2).pid, flush=True)"
    process = await trio.run_process([sys.executable, "-c", code], capture_stdout=True)
    pid = int(process.stdout)
    with trio.move_on_after(0.05) as scope:
        await wait_for_exit(pid)
    assert scope.cancelled_caught
    os.kill(pid, 9)
    with trio.fail_after(5):
        await wait_for_exit(pid)
        await wait_for_exit(pid)  # at once, for one that is gone
