"""Warm starts: a process is forked from one that has imported everything, instead of starting an interpreter.

That one, the *zygote*, is a process of its own: single-threaded, with no loop, no node and no socket but the one to its
supervisor, so there is nothing that a fork could copy in the middle of its work. It forks twice, so that the new
process loses its parent and becomes a child of the supervisor, which is a subreaper: to whoever supervises it, it is
like any other.

    python -m taktora_trio.processes.warm ENTRY MODULE...    imports the modules; each fork on request calls ENTRY
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import logging
import os
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from typing import NoReturn

import attrs
import trio

from taktora_trio.errors import TransportError
from taktora_trio.processes import interpreter
from taktora_trio.processes.process import Start, StartProcess

__all__ = ["Zygote", "open_zygote"]

log = logging.getLogger(__name__)

_LIMIT = 64 * 1024  # bytes of a request
_FDS = 16
_FORKING = 5.0  # seconds after which a zygote that does not answer is replaced
_ENDING = 1.0  # seconds
_ABOVE = 100  # received descriptors are first moved up here, so that none is in the way of another


# In the supervisor


class Zygote:
    """What `open_zygote` gives. A zygote that has died, or does not answer, is replaced."""

    def __init__(self, entry: str, modules: Sequence[str]) -> None:
        self._program = [*interpreter.program(__name__), entry, *modules]
        self._process: trio.Process | None = None
        self._socket: socket.socket | None = None

    def start(self, arguments: Sequence[str], pass_fds: Sequence[int] = ()) -> StartProcess:
        """What starts a process by a fork in which ENTRY is called with these arguments in `sys.argv`."""

        async def start(given: Start) -> _Forked:
            for _ in range(2):
                with trio.move_on_after(_FORKING):
                    if (pid := await self._fork(arguments, given, pass_fds)) is not None:
                        return _Forked(pid)
                log.error("the process that warm starts are forked from does not answer, so it is replaced")
                await self.close()
            raise TransportError("no warm start is possible: leave --warm away")

        return start

    async def open(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._socket = ours
        with theirs:
            # Its standard input is the socket, by whose end of file it learns that we are gone.
            self._process = await trio.lowlevel.open_process(
                self._program,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**os.environ, **interpreter.environment()},
                process_group=0,
            )

    async def close(self) -> None:
        """It ends by itself when its socket does; should it hang, it is killed."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            with trio.CancelScope(shield=True):
                with trio.move_on_after(_ENDING):
                    await self._process.wait()
                self._process.kill()
                await self._process.wait()
            self._process = None

    async def _fork(self, arguments: Sequence[str], given: Start, pass_fds: Sequence[int]) -> int | None:
        """The new process's id; `None` if the zygote is gone."""
        if self._socket is None:
            await self.open()
        assert self._socket is not None
        numbers = [1, 2, given.link.fd, *pass_fds]
        request = json.dumps({"arguments": list(arguments), "env": dict(given.environment), "numbers": numbers})
        try:
            socket.send_fds(self._socket, [request.encode()], [given.stdout, given.stderr, *numbers[2:]])
            await trio.lowlevel.wait_readable(self._socket)
            answer = self._socket.recv(32)
        except OSError:
            return None
        return int(answer) if answer else None


@attrs.define
class _Forked:
    """A child that no `subprocess.Popen` knows."""

    pid: int
    returncode: int | None = None

    async def wait(self) -> int:
        if self.returncode is None:
            fd = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(fd)
            finally:
                os.close(fd)
            if self.returncode is None:  # another task may have waited, too
                _, status = os.waitpid(self.pid, 0)  # noqa: ASYNC222 - it has ended, so nothing waits
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


@contextlib.asynccontextmanager
async def open_zygote(entry: str, modules: Sequence[str]) -> AsyncIterator[Zygote]:
    """A zygote that has imported `modules`, for as long as the block lasts; each fork calls `entry` (MODULE:FUNCTION).

    This process must be a subreaper (`descendants.become_subreaper`).
    """
    zygote = Zygote(entry, modules)
    try:
        await zygote.open()
        yield zygote
    finally:
        await zygote.close()


# In the zygote


def _serve(entry: str, modules: Sequence[str]) -> None:
    """Fork on request until the supervisor is gone. Returns only in a fork, which is then to call the entry."""
    control = socket.socket(fileno=os.dup(0))
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    for module in modules:
        importlib.import_module(module)
    module, _, function = entry.partition(":")
    call = getattr(importlib.import_module(module), function)
    gc.collect()
    gc.freeze()  # so that collections in the forks leave these pages shared
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(control, _LIMIT, _FDS)
        except ConnectionResetError:  # it was gone before it had read our last answer
            return
        if not data:
            return
        request = json.loads(data)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            between = os.getpid()
            pid = os.fork()
            if pid:
                os.write(writing, b"%d" % pid)
                os._exit(0)
            os.close(reading)
            os.close(writing)
            control.close()
            _become(request, fds, between)
            call()
            sys.exit(0)
        os.waitpid(between, 0)
        with contextlib.suppress(BrokenPipeError):  # it is gone, and so is soon what was forked
            control.send(os.read(reading, 32))
        for fd in (reading, writing, *fds):
            os.close(fd)


def _become(request: dict[str, object], fds: list[int], parent: int) -> None:
    """Turn this fork into what was asked for."""
    os.setpgid(0, 0)
    with contextlib.suppress(ProcessLookupError):
        # When it has ended, the supervisor is our parent, by which we know it.
        pidfd = os.pidfd_open(parent)
        select.select([pidfd], [], [])
        os.close(pidfd)
    arguments, env, numbers = request["arguments"], request["env"], request["numbers"]
    assert isinstance(arguments, list)
    assert isinstance(env, dict)
    assert isinstance(numbers, list)
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, _ABOVE) for fd in fds]
    for fd in fds:
        os.close(fd)
    for fd, number in zip(moved, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.update(env)
    sys.argv = ["taktora-trio", *map(str, arguments)]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # nothing printed is lost at a crash
    random.seed()


def _main() -> NoReturn:
    # The supervisor decides when this ends; a terminal's Ctrl-C is not for it. The forks set handlers of their own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _serve(sys.argv[1], sys.argv[2:])
    sys.exit(0)


if __name__ == "__main__":
    _main()
