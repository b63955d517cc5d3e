"""Real child processes that a test writes in a few lines of Python, and what their supervisor learned of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import attrs
import psutil
import trio

from taktora_trio import Backoff, RestartPolicy
from taktora_trio.health import Failure
from taktora_trio.processes.parent import as_process, spawn
from taktora_trio.processes.parent.child_link import ChildLink
from taktora_trio.processes.parent.output import Stream
from taktora_trio.supervision.supervisor import Exit, Supervisor

__all__ = ["BACKOFF", "LONG", "POLICY", "PYTHON", "Children", "open_children", "open_two_threads", "program"]

LONG = 40.0  # seconds after which a test gives up
BACKOFF = Backoff(initial=0.01, maximum=0.04, factor=2, jitter=0)
POLICY = RestartPolicy(backoff=BACKOFF, period=300, start_timeout=LONG, watchdog=LONG, stop_grace=LONG)
PYTHON = (sys.executable, "-I", "-S", "-c")

# Without the socket module, whose import takes longer than the rest. `pipe` is heard by the test.
_PRELUDE = """
import _socket, os, signal, sys, time
def tell(text, address=os.environ['NOTIFY_SOCKET'].replace('@', '\\0', 1)):
    s = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    s.sendto(text.encode(), address)
    s.close()
def ready(): tell('READY=1')
def write(text): os.write(pipe, text.encode())
def hang():
    while True: signal.pause()
run = int(os.environ['TAKTORA_SUPERVISOR'].split()[2])
"""


def program(code: str, pipe: int = -1) -> list[str]:
    """Return a command that runs `code`, which may use what is in the prelude; `run` is its incarnation."""
    return [*PYTHON, f"pipe = {pipe}{_PRELUDE}{code}"]


@attrs.define
class Children:
    """Supervises children that may `write` to the test, and records what the supervisor tells."""

    _reading: trio.lowlevel.FdStream
    _writing: int
    pids: list[int] = attrs.field(factory=list)
    ends: int = 0
    exits: list[Exit] = attrs.field(factory=list)
    failures: list[Failure] = attrs.field(factory=list)
    lines: list[tuple[Stream, bytes]] = attrs.field(factory=list)
    on_failure: Callable[[], None] = lambda: None
    on_start: Callable[[], None] = lambda: None
    on_exit: Callable[[Exit], None] = lambda exit_: None
    written: bytes = b""

    def supervisor(
        self,
        code: str,
        policy: RestartPolicy = POLICY,
        *,
        permanent_codes: Sequence[int] = (),
        revivable: bool = False,
        starts_last: bool = False,
    ) -> Supervisor:
        def started(incarnation: int, pid: int, link: ChildLink) -> None:
            self.pids.append(pid)
            self.on_start()

        def ended() -> None:
            self.ends += 1

        def failed(failure: Failure, exit_: Exit) -> None:
            self.failures.append(failure)
            self.exits.append(exit_)
            self.on_failure()

        runner = as_process(
            "child",
            spawn(program(code, self._writing), [self._writing]),
            policy,
            write=lambda stream, line: self.lines.append((stream, line)),
            on_start=started,
            on_end=ended,
            on_exit=lambda exit_: self.on_exit(exit_),
            permanent_codes=permanent_codes,
            starts_last=starts_last,
        )
        return Supervisor("child", runner, policy, on_failure=failed, revivable=revivable)

    async def run(self, code: str, policy: RestartPolicy = POLICY, *, permanent_codes: Sequence[int] = ()) -> Exit:
        """Supervise to the end, which is to come; return the last end."""
        with trio.fail_after(LONG):
            exit_ = await self.supervisor(code, policy, permanent_codes=permanent_codes).run()
        assert exit_ is not None
        return exit_

    async def run_once(self, code: str, policy: RestartPolicy = POLICY) -> Exit:
        """Run a single one; return its end."""
        return await self.run(code, attrs.evolve(policy, restart="never"))

    async def until_written(self, data: bytes) -> None:
        with trio.fail_after(LONG):
            while data not in self.written:
                chunk = await self._reading.receive_some()
                assert chunk, "ended without a word"
                self.written += chunk

    async def cancelled_once_written(self, data: bytes, code: str, policy: RestartPolicy = POLICY) -> None:
        """Supervise until `data` was written, then cancel."""
        with trio.fail_after(LONG):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.supervisor(code, policy).run)
                await self.until_written(data)
                nursery.cancel_scope.cancel()

    def kill(self, signum: signal.Signals) -> None:
        """Send a signal to the one that was started last."""
        os.kill(self.pids[-1], signum)

    async def until_all_ended(self) -> bytes:
        """Wait until no process has the pipe any more, of whatever generation; return all that they wrote."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
        with trio.fail_after(LONG):
            while data := await self._reading.receive_some():
                self.written += data
        return self.written

    def out(self, stream: Stream = "stdout") -> list[bytes]:
        return [line for name, line in self.lines if name == stream]


@contextlib.contextmanager
def open_two_threads() -> Iterator[int]:
    """Yield the id of a process with two threads, which wait."""
    code = "import _thread, signal; _thread.start_new_thread(signal.pause, ()); print(flush=True); signal.pause()"
    with subprocess.Popen([*PYTHON, code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


@contextlib.asynccontextmanager
async def open_children() -> AsyncIterator[Children]:
    """Yield the children. The block fails if it leaves a process behind, be it a zombie, or a descriptor."""
    before = set(os.listdir("/proc/self/fd"))
    reading, writing = os.pipe()
    async with trio.lowlevel.FdStream(reading) as stream:
        children = Children(stream, writing)
        yield children
        await children.until_all_ended()
    assert [pid for pid in children.pids if psutil.pid_exists(pid)] == []
    assert children.ends == len(children.pids)
    assert set(os.listdir("/proc/self/fd")) <= before, "left behind: descriptors"
