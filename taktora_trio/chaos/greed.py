"""Greed: a process that takes all that it can get of cores and of memory, and bounds itself where nobody else does."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import trio

__all__ = ["take_cores", "take_memory"]

_EACH = 2  # programs for each core, so that the scheduler has to choose among them
_LONG = 60  # seconds that one of them lasts at most, should nobody end it
_STEP = 16 * 2**20
MOST = 2**30
"""Bytes that are taken where nothing stops it: a machine has other work, too."""
_SPIN = f"import signal\nsignal.alarm({_LONG})\nwhile True: pass"


@contextlib.contextmanager
def take_cores() -> Iterator[None]:
    """Compute without end on every core, by programs that are in this process's group, as long as the block lasts."""
    command = [sys.executable, "-I", "-S", "-c", _SPIN]
    spinning = [
        subprocess.Popen(command, stdin=subprocess.DEVNULL)  # their number is this machine's, as greed has it
        for _ in range(_EACH * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for program in spinning:
            program.kill()
        for program in spinning:
            program.wait()


async def take_memory() -> None:
    """Take memory until there is no more to be had, which ends this process one way or the other, or it is enough.

    Raises `MemoryError`.
    """
    held: list[bytes] = []
    while len(held) * _STEP < MOST:
        held.append(b"x" * _STEP)  # written, so that it is really taken
        await trio.lowlevel.checkpoint()
    await trio.sleep(0.5)
