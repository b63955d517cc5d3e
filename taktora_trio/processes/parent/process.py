"""A process as something to supervise: with a process group of its own, watched for signs of life, and never left."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec
import trio

from taktora_trio.errors import TransportError
from taktora_trio.processes.parent.child_link import ChildLink, open_link
from taktora_trio.processes.parent.descendants import Descendants
from taktora_trio.processes.parent.group import Child, stop_process
from taktora_trio.processes.parent.memory_controller import out_of_memory_kills
from taktora_trio.processes.parent.notify_socket import open_notify_socket
from taktora_trio.processes.parent.output import Pipe, Stream
from taktora_trio.processes.parent.start_last import StartsLast
from taktora_trio.processes.parent.stderr_tail import StderrTail
from taktora_trio.processes.parent.watch import Watch
from taktora_trio.supervision.policy import RestartPolicy
from taktora_trio.supervision.supervisor import Exit, Runner

__all__ = ["Start", "StartProcess", "as_process", "spawn"]

log = logging.getLogger(__name__)

_DYING = 2.0  # seconds; more than killed processes take to end
_DRAIN = 1.0  # seconds for which an ended process's output is still read, should another process have its pipe


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """All that one incarnation gets of ours when it is started."""

    environment: Mapping[str, str]
    """Variables in addition to our own environment."""
    link: ChildLink
    stdout: int
    stderr: int


StartProcess: TypeAlias = Callable[[Start], Awaitable[Child]]


def spawn(
    command: Sequence[str], pass_fds: Sequence[int] = (), environment: Mapping[str, str] | None = None
) -> StartProcess:
    """Return what starts a program afresh each time, with `environment` in addition to our own."""

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
    on_exit: Callable[[Exit], None] = lambda exit_: None,
    permanent_codes: Sequence[int] = (),
    starts_last: bool = False,
    count_kills: Callable[[], int] = out_of_memory_kills,
) -> Runner:
    """Return a runner of one process at a time.

    The process is ready when it says `READY=1` (sd_notify(3)). If it does not within `policy.start_timeout` seconds,
    or gives no sign of life for `policy.watchdog` seconds, it is killed, and that is a failure. When the runner is
    cancelled, the process gets SIGTERM, then SIGKILL after `policy.stop_grace` seconds. Time in which this process did
    not run counts for none of them. When the runner returns, the process has ended, with all of its group and all else
    that it has started.

    `write` gets each line of its output.
    `on_start(incarnation, pid, link)` and `on_end()` enclose its life. `on_status` gets its status for people
    (`STATUS=`, any text at all). `on_exit` is called as soon as it is known how it ended, while what it has left behind
    is still being ended. An exit code that the process says it was asked for (`EXIT_STATUS=`) is no
    failure. One in `permanent_codes` is a permanent failure: another try would end the same way. With `starts_last`
    every other process that wants a core gets it first, until this one is ready (`start_last.py`). `count_kills` counts
    the processes that the kernel has killed for want of memory, of which this may be one.
    """

    async def runner(incarnation: int, ready: Callable[[], None]) -> Exit:
        descendants = Descendants(f"{name}-{incarnation}-{os.urandom(8).hex()}")
        stderr_tail = StderrTail()

        def line(stream: Stream, text: bytes) -> None:
            if stream == "stderr":
                stderr_tail.add(text)
            write(stream, text)

        kills = count_kills()
        with open_notify_socket() as notify, open_link() as link:
            async with _open_output(line) as (stdout, stderr, take_all):
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
                starting = StartsLast(child.pid) if starts_last else None
                log.info(
                    "%s: started, pid %d",
                    name,
                    child.pid,
                    extra={"event": "process-started", "half": name, "child": child.pid},
                )
                notify.pid = child.pid

                def is_ready(starting: StartsLast | None = starting) -> None:
                    if starting is not None:
                        starting.end()
                    ready()

                watch = Watch(name, child, policy, notify, is_ready, on_status)

                def exit_(returncode: int) -> Exit:
                    kind, description = watch.verdict(returncode, count_kills() > kills)
                    return Exit(
                        kind,
                        description,
                        failed=kind != "exit" or watch.failed(returncode),
                        permanent=returncode in permanent_codes,
                        silent=watch.silent if kind == "hang" else 0.0,
                        stderr_tail=stderr_tail.lines(),
                        returncode=returncode,
                    )

                def ended(returncode: int) -> None:
                    take_all()
                    on_exit(exit_(returncode))

                try:
                    on_start(incarnation, child.pid, link)
                    async with trio.open_nursery() as nursery:
                        if starting is not None:
                            nursery.start_soon(starting.serve)
                        await watch.until_ended(ended)
                        nursery.cancel_scope.cancel()
                finally:
                    await stop_process(name, child, policy.stop_grace)
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + _DYING):
                        if left := await descendants.end():
                            log.warning(
                                "%s: killed %d processes that it left behind",
                                name,
                                len(left),
                                extra={"event": "process-leftovers-killed", "half": name, "count": len(left)},
                            )
                    on_end()
        assert child.returncode is not None
        return exit_(child.returncode)

    return runner


@contextlib.asynccontextmanager
async def _open_output(line: Callable[[Stream, bytes], None]) -> AsyncIterator[tuple[int, int, Callable[[], None]]]:
    """Yield descriptors for a child's standard output and error; each line, to the very last, goes to `line`.

    The third takes what it has written by now, without waiting: all, once it has ended.
    """

    # Shielded: the lines that it writes while it is stopped are read, too.
    scopes: list[trio.CancelScope] = []

    async def read(pipe: Pipe) -> None:
        with trio.CancelScope(shield=True) as scope:
            scopes.append(scope)
            await pipe.serve()

    def take_all() -> None:
        stdout.take_all()
        stderr.take_all()

    out, err = os.pipe(), os.pipe()
    with (
        Pipe(out[0], lambda text: line("stdout", text)) as stdout,
        Pipe(err[0], lambda text: line("stderr", text)) as stderr,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, stdout)
            nursery.start_soon(read, stderr)
            try:
                yield out[1], err[1], take_all
            finally:
                for scope in scopes:  # a process that escaped us may still have the pipe
                    scope.deadline = trio.current_time() + _DRAIN


@contextlib.contextmanager
def _closed_after(stdout: int, stderr: int, link: ChildLink) -> Iterator[None]:
    """Close our copies of the child's ends after the block, so that only the child has them."""
    try:
        yield
    finally:
        os.close(stdout)
        os.close(stderr)
        link.child_has_it()
