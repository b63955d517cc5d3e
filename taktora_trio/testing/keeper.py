"""Keeper: clears away what is left of a run when its test's process has ended without doing so.

A test that is killed, or that pytest-timeout ends, runs no `finally`. So a shell waits at a pipe that the test holds.
When the pipe is closed and nobody has said that all is well, the shell becomes this program.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from taktora_trio.processes import interpreter
from taktora_trio.statefolder import deployment_folder
from taktora_trio.transport.domain import Domain

__all__ = ["clear", "open_keeper"]

_WAIT = 'read -r _ || exec "$@"'  # the shell costs a millisecond, where a Python would cost many
_GRACE = 15.0  # seconds for what is asked to end
_PAUSE = 0.05
_PATIENCE = 5.0


@contextlib.asynccontextmanager
async def open_keeper(domain: Domain, folder: Path) -> AsyncIterator[None]:
    """Have the run's processes, files and shared memory cleared away, should this process end within the block."""
    command = [*interpreter.program("taktora_trio.testing.keeper"), domain.name, str(folder)]
    process = await trio.lowlevel.open_process(
        ["/bin/sh", "-c", _WAIT, "sh", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,  # else who reads the test's output would wait for its end
        stderr=subprocess.DEVNULL,
        env={**os.environ, **interpreter.environment()},
        start_new_session=True,  # neither Ctrl-C nor the end of the terminal is for it
    )
    assert process.stdin is not None
    try:
        yield
    finally:
        with trio.move_on_after(_PATIENCE, shield=True), contextlib.suppress(trio.BrokenResourceError):
            await process.stdin.send_all(b"all is well\n")
            await process.wait()


def clear(domain: Domain, folder: Path) -> None:
    """End each process that has the domain or the folder in its command line, and remove all that they had."""
    names = os.fsencode(domain.name), os.fsencode(folder)
    deadline = time.monotonic() + _GRACE
    for signum in (signal.SIGTERM, signal.SIGKILL):
        for pid in _running(*names):
            with contextlib.suppress(OSError):
                os.kill(pid, signum)
        while _running(*names) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        deadline = time.monotonic() + _GRACE
    domain.remove_if_unused()
    domain.forget()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(deployment_folder(domain.name), ignore_errors=True)


def _running(*names: bytes) -> list[int]:
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                command = Path(entry.path, "cmdline").read_bytes()
                if any(name in command for name in names):
                    found.append(int(entry.name))
    return found


if __name__ == "__main__":
    clear(Domain(sys.argv[1]), Path(sys.argv[2]))
