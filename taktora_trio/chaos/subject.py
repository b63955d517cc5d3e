"""The deployment under test: the real command, as a process with halves of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, TypeAlias

import trio

from taktora_trio.chaos.processes import Process, descendants, wait_until_gone
from taktora_trio.processes.lines import read_lines
from taktora_trio.transport.domain import Domain

__all__ = ["Half", "Subject", "open_subject"]

Half: TypeAlias = Literal["gateway", "plugin"]
_GATEWAY, _WARM = " taktora_trio gateway ", " taktora_trio.processes.child.zygote "  # in command lines
_LIFETIME = 3600.0  # seconds
_STOP_TIMEOUT, _ORPHANS_TIMEOUT = 8.0, 8.0
_KEPT_LINES, _LINE_LIMIT = 200, 16_000


class Subject:
    """A run of `taktora-trio run`."""

    def __init__(self, process: trio.Process, domain: Domain) -> None:
        self.process = process
        self.domain = domain
        self.last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        """The lines that it has logged last."""
        self.stderr_bytes = 0

    def pid(self, half: Half) -> int | None:
        """Return the process that holds this half's role, if one does."""
        return self.domain.holder(half)

    def processes(self) -> list[Process]:
        """Return all below the supervisor."""
        return descendants(self.process.pid)

    def newest_gateway(self) -> int | None:
        """Return the gateway that was started last, though it may hold nothing yet."""
        children = sorted(
            (process for process in self.processes() if process.parent == self.process.pid and not process.is_zombie),
            key=lambda process: process.started,
        )
        # A gateway that was forked has the same command line as the older process that it was forked from.
        forked = [process for process in children if _WARM in process.command][1:]
        started = [process for process in children if _GATEWAY in process.command]
        newest = [*started, *forked][-1:]
        return newest[0].pid if newest else None

    def zygote(self) -> int | None:
        """Return the process that gateways are forked from, if there is one."""
        return next((process.pid for process in self.processes() if _WARM in process.command), None)

    def signal(self, signum: signal.Signals, who: Half | Literal["supervisor"]) -> bool:
        """Send a signal. Return false if there was nobody to send it to."""
        pid = self.process.pid if who == "supervisor" else self.pid(who)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
            return True
        return False

    async def read_log(self) -> None:
        """Serve: keep the last lines, so that the process is never held up by what it has to say."""
        assert self.process.stderr is not None
        async for line in read_lines(self.process.stderr):
            self.stderr_bytes += len(line)
            self.last_lines.append(line[:_LINE_LIMIT].decode(errors="replace"))

    async def _end(self) -> None:
        """End it politely, else by force, and what it has started with it."""
        family = self.processes()
        with contextlib.suppress(ProcessLookupError):
            for signum in (signal.SIGCONT, signal.SIGTERM):
                self.process.send_signal(signum)
            with trio.move_on_after(_STOP_TIMEOUT):
                await self.process.wait()
            self.process.kill()
        await self.process.wait()
        for orphan in await wait_until_gone(family, _ORPHANS_TIMEOUT):
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan.pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def open_subject(
    target: str,
    domain: Domain,
    reach: Sequence[str],
    environment: Mapping[str, str],
    more: Sequence[str] = (),
    *,
    mode: str = "split",
    lifetime: float = _LIFETIME,
) -> AsyncIterator[Subject]:
    """Start it; `reach` are the options of `run` that say where its broker is, and `more` are further ones.

    After the block it has ended, with all it has started.

    It ends by itself after `lifetime` seconds, should whoever watches it be killed.
    """
    command = [sys.executable, "-m", "taktora_trio", "run", target, "--mode", mode, "--await-peer"]
    options = [*reach, "--domain", domain.name, "--log", "json", "--for", f"{lifetime:g}", *more]
    process = await trio.lowlevel.open_process(
        [*command, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        process_group=0,  # Ctrl-C is for whoever watches
    )
    subject = Subject(process, domain)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subject.read_log)
            yield subject
            if process.returncode is None:
                process.terminate()
                with trio.move_on_after(_STOP_TIMEOUT):
                    await process.wait()
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _STOP_TIMEOUT + 2 * _ORPHANS_TIMEOUT):
            await subject._end()
