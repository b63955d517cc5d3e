"""A process as something to supervise: with a group of its own, watched for signs of life, and never left behind."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import attrs
import trio
from trio_util import move_on_when

from taktora_trio.errors import TransportError
from taktora_trio.health import FailureKind
from taktora_trio.processes.descendants import Descendants
from taktora_trio.processes.link import ChildLink, open_link
from taktora_trio.processes.notify import Notification, NotifySocket, open_notify_socket
from taktora_trio.processes.output import StderrTail, Stream, read_lines
from taktora_trio.processes.patience import sleep_running
from taktora_trio.supervision.policy import RestartPolicy
from taktora_trio.supervision.supervisor import Exit, Runner

__all__ = ["Child", "Start", "as_process", "spawn", "stop_process"]

log = logging.getLogger(__name__)

_OUT_OF_MEMORY = 12  # ENOMEM, by which a process says that it could not go on
_DUMP = 0.05  # of the watchdog period: what a hung process has to tell where it hangs
_STOPPING = 1.0  # seconds that a process has at least to end, once it says that it stops
_DYING = 2.0  # seconds; more than killed processes take to end
_UNREAD = 256  # more than a socket holds of what nobody has read (unix(7): 10, where nobody has changed that)
_DRAIN = 1.0  # seconds for which an ended process's output is still read, should somebody else have its pipe


class Child(Protocol):
    """A process that was started. Like `trio.Process`, which is one."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...


@attrs.frozen(kw_only=True)
class Start:
    """What one incarnation is started with; whoever starts it gives it these, and nothing else of ours."""

    environment: Mapping[str, str]
    """In addition to our own."""
    link: ChildLink
    stdout: int
    stderr: int


StartProcess: TypeAlias = Callable[[Start], Awaitable[Child]]


def spawn(
    command: Sequence[str], pass_fds: Sequence[int] = (), environment: Mapping[str, str] | None = None
) -> StartProcess:
    """A fresh program each time, with `environment` in addition to our own."""

    async def start(given: Start) -> Child:
        # process_group=0: the terminal's Ctrl-C must reach the child once, from its supervisor, and not twice.
        return await trio.lowlevel.open_process(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=given.stdout,
            stderr=given.stderr,
            pass_fds=[given.link.fd, *pass_fds],
            env={**os.environ, **(environment or {}), **given.environment},
            process_group=0,
        )

    return start


def as_process(
    name: str,
    start: StartProcess,
    policy: RestartPolicy,
    *,
    write: Callable[[Stream, bytes], None],
    on_start: Callable[[int, int, ChildLink], None] = lambda incarnation, pid, link: None,
    on_end: Callable[[], None] = lambda: None,
    on_status: Callable[[str], None] = lambda status: None,
    permanent_codes: Sequence[int] = (),
) -> Runner:
    """A runner of one process at a time.

    It is ready when it says `READY=1` (sd_notify(3)). If it does not within `policy.start_timeout` seconds, or gives
    no sign of life for `policy.watchdog` seconds, it is ended, and that was a failure. When cancelled, it gets
    SIGTERM, then SIGKILL after `policy.stop_grace` seconds. Time in which we did not run ourselves counts for none of
    them. When the runner returns, the process has ended, with all of its group and all else that it has started.
    `write` gets each line of its output.
    `on_start(incarnation, pid, link)` and `on_end()` enclose its life, `on_status` gets what it says of itself to
    people (`STATUS=`, any text at all). An exit code in `permanent_codes` is a permanent failure: another try would end
    the same way.
    """

    async def runner(incarnation: int, ready: Callable[[], None]) -> Exit:
        descendants = Descendants(f"{name}-{incarnation}-{os.urandom(8).hex()}")
        stderr_tail = StderrTail()

        def line(stream: Stream, text: bytes) -> None:
            if stream == "stderr":
                stderr_tail.add(text)
            write(stream, text)

        kills = _out_of_memory_kills()
        with open_notify_socket() as notify, open_link() as link:
            async with _open_output(line) as (stdout, stderr):
                with _closed_after(stdout, stderr, link):
                    environment = {
                        **notify.environment(policy.watchdog),
                        **link.environment(incarnation),
                        **descendants.environment,
                        "PYTHONUNBUFFERED": "1",  # nothing that was printed is lost at a crash
                    }
                    try:
                        child = await start(Start(environment=environment, link=link, stdout=stdout, stderr=stderr))
                    except (OSError, TransportError) as exc:  # too many processes, too little memory, no such program
                        return Exit("exception", f"it could not be started: {exc}", failed=True)
                log.info("%s: started, pid %d", name, child.pid)
                notify.pid = child.pid
                life = _Life(name, child, policy, notify, ready, on_status)
                try:
                    on_start(incarnation, child.pid, link)
                    await life.watch()
                finally:
                    await stop_process(name, child, policy.stop_grace)
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + _DYING):
                        if left := await descendants.end():
                            log.warning("%s: killed %d processes that it left behind", name, len(left))
                    on_end()
        assert child.returncode is not None
        kind, description = life.verdict(child.returncode, _out_of_memory_kills() > kills)
        return Exit(
            kind,
            description,
            failed=kind != "exit" or child.returncode != 0,
            permanent=child.returncode in permanent_codes,
            silent=life.silent if kind == "hang" else 0.0,
            stderr_tail=stderr_tail.lines(),
            returncode=child.returncode,
        )

    return runner


class _Life:
    """One incarnation, from its start to its end."""

    def __init__(
        self,
        name: str,
        child: Child,
        policy: RestartPolicy,
        notify: NotifySocket,
        ready: Callable[[], None],
        on_status: Callable[[str], None],
    ) -> None:
        self._name = name
        self._child = child
        self._policy = policy
        self._notify = notify
        self._ready = ready
        self._on_status = on_status
        self._is_ready = False
        self._is_stopping = False
        self._errno = 0
        self._ended_for: str | None = None  # why we have ended it
        self.silent = 0.0
        """Seconds without a sign, until we have ended it for that."""

    async def watch(self) -> None:
        """Wait for its end, or bring it about."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_signs)
            await self._child.wait()
            nursery.cancel_scope.cancel()
        with contextlib.suppress(trio.WouldBlock):  # what it died of, should it have said so
            for _ in range(_UNREAD):
                self._errno = self._notify.receive_nowait().errno or self._errno

    async def _watch_signs(self) -> None:
        period = left = self._policy.start_timeout
        heard = trio.current_time()
        while (news := await self._next_sign(left)) is not None:
            left -= trio.current_time() - heard
            heard = trio.current_time()
            watched = self._policy.watchdog is not None or not self._is_ready
            if news.stopping and watched:
                self._is_stopping = True
                period = left = max(2 * self._policy.stop_grace, _STOPPING)
                continue
            if news.ready and not self._is_ready:
                self._is_ready = True
                self._ready()
            if self._is_ready:
                period = left = math.inf if self._policy.watchdog is None else self._policy.watchdog
            else:
                period = news.extend
                left = max(left, period)
        self.silent = trio.current_time() - heard
        if self._is_stopping:
            what = f"no end within {period:g} s after it said that it stops"
        elif self._is_ready:
            what = f"no sign of life for {self.silent:.1f} s"
        else:
            what = f"not ready within {period:g} s"
        self._ended_for = what
        log.error("%s: pid %d: %s, so it is killed", self._name, self._child.pid, what)
        # First the signal at which a Python process with faulthandler tells where it is.
        _signal_group(self._child.pid, signal.SIGABRT)
        await trio.sleep(min(period * _DUMP, 0.5))
        _signal_group(self._child.pid, signal.SIGKILL)

    async def _next_sign(self, seconds: float) -> Notification | None:
        """The next news that counts; `None` if there is none while we run for so long."""
        async with move_on_when(sleep_running, seconds):
            while True:
                if self._hear(news := await self._notify.receive()):
                    return news
        with contextlib.suppress(trio.WouldBlock):  # what came while we had no time to read it
            for _ in range(_UNREAD):
                if self._hear(news := self._notify.receive_nowait()):
                    return news
        return None

    def _hear(self, news: Notification) -> bool:
        """Whether it puts the end off; once it stops, nothing does."""
        self._errno = news.errno or self._errno
        if news.status:
            self._on_status(news.status)
        if self._is_stopping:
            return False
        return news.stopping or (news.alive if self._is_ready else news.ready or news.extend > 0)

    def verdict(self, returncode: int, memory_ran_out: bool) -> tuple[FailureKind, str]:
        """The kind of the end, and its description."""
        if self._ended_for is not None:
            return ("hang" if self._is_ready else "start-deadline"), f"{self._ended_for}, so it was killed"
        if self._errno == _OUT_OF_MEMORY:
            return "out-of-memory", "out of memory"
        if returncode == -signal.SIGKILL and memory_ran_out:
            return "out-of-memory", "killed by the kernel, out of memory"
        return ("signal" if returncode < 0 else "exit"), describe(returncode)


def describe(returncode: int) -> str:
    """How a process ended, in words; a negative `returncode` is a signal's."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def _out_of_memory_kills() -> int:
    """How many processes the kernel has killed for want of memory, of all there are (proc_vmstat(5))."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


@contextlib.asynccontextmanager
async def _open_output(line: Callable[[Stream, bytes], None]) -> AsyncIterator[tuple[int, int]]:
    """Descriptors for a child's standard output and error; each of their lines goes to `line`, to the very last."""

    # Not cancelled with the rest: what it says while it is stopped is to be heard, too.
    scopes: list[trio.CancelScope] = []

    async def read(fd: int, stream: Stream) -> None:
        with trio.CancelScope(shield=True) as scope:
            scopes.append(scope)
            async for text in read_lines(fd):
                line(stream, text)

    out, err = os.pipe(), os.pipe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, out[0], "stdout")
        nursery.start_soon(read, err[0], "stderr")
        try:
            yield out[1], err[1]
        finally:
            for scope in scopes:  # somebody who escaped us may still have the pipe
                scope.deadline = trio.current_time() + _DRAIN


@contextlib.contextmanager
def _closed_after(stdout: int, stderr: int, link: ChildLink) -> Iterator[None]:
    """Only the child has these, from when it runs."""
    try:
        yield
    finally:
        os.close(stdout)
        os.close(stderr)
        link.child_has_it()


async def stop_process(name: str, child: Child, grace: float) -> None:
    """End a process that leads its own group, and what it left in the group: SIGTERM, `grace` seconds, SIGKILL."""
    if child.returncode is None:
        # First the act that makes the wait finite, then the shielded wait.
        _signal_group(child.pid, signal.SIGTERM)
        with trio.CancelScope(shield=True):
            async with move_on_when(sleep_running, grace):
                await child.wait()
            if child.returncode is None:
                log.warning("%s: did not stop within %.1f s, so it is killed", name, grace)
                _signal_group(child.pid, signal.SIGKILL)
                await child.wait()
        log.info("%s: stopped (%s)", name, describe(child.returncode or 0))
    _signal_group(child.pid, signal.SIGKILL)


def _signal_group(group: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # nobody is left in it
        os.killpg(group, signum)
