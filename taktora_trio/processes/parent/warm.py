"""Warm starts: a child is forked from a process that has imported everything, instead of starting an interpreter.

That process, the *zygote*, runs `child/zygote.py`. A process that it forks becomes a child of the supervisor, which is
a subreaper; it is supervised like any other.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence

import attrs
import trio

from taktora_trio.errors import TransportError
from taktora_trio.processes import interpreter
from taktora_trio.processes.parent.process import Start, StartProcess
from taktora_trio.processes.parent.subreaper import reap
from taktora_trio.processes.pidfd import wait_for_exit
from taktora_trio.processes.time_slice import LONG, set_time_slice

__all__ = ["Zygote", "open_zygote"]

log = logging.getLogger(__name__)

_ZYGOTE = "taktora_trio.processes.child.zygote"
_IMPORTING = 30.0  # seconds after which a zygote that has never answered is replaced: it imports everything first
_FORKING = 5.0  # the same for one that has answered before
_ENDING = 1.0  # seconds


class Zygote:
    """A zygote, which is replaced if it has died or does not answer. Use `open_zygote`."""

    def __init__(self, entry: str, modules: Sequence[str]) -> None:
        self._program = [*interpreter.program(_ZYGOTE), entry, *modules]
        self._process: trio.Process | None = None
        self._socket: socket.socket | None = None
        self._has_answered = False

    def start(self, arguments: Sequence[str], pass_fds: Sequence[int] = ()) -> StartProcess:
        """Return what starts a process by a fork, in which ENTRY is called with these arguments in `sys.argv`."""

        async def start(given: Start) -> _Forked:
            tries, has_changed = 2, False
            while tries:
                pid = None
                with trio.move_on_after(_FORKING if self._has_answered else _IMPORTING):
                    pid = await self._fork(arguments, given, pass_fds)
                if pid:
                    return _Forked(pid)
                if pid is not None and not has_changed:
                    has_changed = True  # that much only once: it may go on changing
                    renewed = "the code has changed on the disk, so what warm starts are forked from imports it anew"
                    log.info(renewed, extra={"event": "warm-start-renewed"})
                else:
                    tries -= 1
                    log.error(
                        "the process that warm starts are forked from does not answer, so it is replaced",
                        extra={"event": "warm-start-replaced"},
                    )
                await self.close()
            raise TransportError("no warm start is possible: leave --warm away")

        return start

    async def open(self) -> None:
        """Start the zygote."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._socket = ours
        self._has_answered = False
        with theirs:
            # Its standard input is the socket. The end of file there means that we are gone.
            self._process = await trio.lowlevel.open_process(
                self._program,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**os.environ, **interpreter.environment()},
                process_group=0,
            )
        set_time_slice(LONG, self._process.pid)  # which its forks inherit

    async def close(self) -> None:
        """End the zygote. It ends by itself when its socket does; if it hangs, it is killed.

        A process that it has forked, and nobody has waited for, is killed too: no one else would ever end that. It has
        ended after this, with all that it holds, such as a role of the domain, whose files would be left for it.
        """
        unknown: int | None = None
        if self._socket is not None:
            with contextlib.suppress(OSError):  # the zygote is gone
                self._socket.shutdown(socket.SHUT_RD)  # what it forks from now on ends, as it can't tell us of it
                if (unknown := self._answer()) is not None:
                    os.kill(unknown, signal.SIGKILL)
            self._socket.close()
            self._socket = None
        if self._process is not None:
            with trio.CancelScope(shield=True):
                with trio.move_on_after(_ENDING):
                    await self._process.wait()
                self._process.kill()
                await self._process.wait()
            self._process = None
        if unknown is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _ENDING):
                await wait_for_exit(unknown)
            reap(unknown)

    async def _fork(self, arguments: Sequence[str], given: Start, pass_fds: Sequence[int]) -> int | None:
        """Return the id of the new process; `None` if the zygote is gone, and 0 if the code has changed that it has."""
        if self._socket is None:
            await self.open()
        assert self._socket is not None
        numbers = [1, 2, given.link.fd, *pass_fds]
        request = json.dumps({"arguments": list(arguments), "env": dict(given.environment), "numbers": numbers})
        try:
            socket.send_fds(self._socket, [request.encode()], [given.stdout, given.stderr, *numbers[2:]])
            await trio.lowlevel.wait_readable(self._socket)
            pid = self._answer()
        except OSError:
            return None
        self._has_answered = self._has_answered or pid is not None
        return pid

    def _answer(self) -> int | None:
        """Return the process id that the zygote has sent; `None` if it has closed its end, or we ours."""
        assert self._socket is not None
        answer = self._socket.recv(32)
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
    """Open a zygote that has imported `modules`. Each fork of it calls `entry` (MODULE:FUNCTION).

    This process must be a subreaper (`subreaper.become_subreaper`).
    """
    zygote = Zygote(entry, modules)
    try:
        await zygote.open()
        yield zygote
    finally:
        await zygote.close()
