"""Reserving memory in /dev/shm when something is opened, so that a full /dev/shm never hurts what is open.

Before anything is created this looks whether there is memory for it, and afterwards it sets every page of it aside:
what is open goes on at full speed however full /dev/shm runs, and only opening something new fails then. The processes
of a domain do that in turn, so that the memory that one has seen free is not taken by another.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextvars import ContextVar

import iceoryx2 as iox2
import msgspec
import trio

from taktora_trio.transport.descriptors import refusal
from taktora_trio.transport.pages import Pages
from taktora_trio.transport.pauses import PAUSES, sleep
from taktora_trio.transport.segments import SharedMemoryFull, free_bytes
from taktora_trio.transport.turn import Turn

__all__ = ["reserve"]

PATIENCE = 2.0
"""Seconds for which missing memory is waited for. Less than a start may take, so that it can say what was missing."""


class _Memory(msgspec.Struct, frozen=True):
    """A domain's memory, as this process takes it."""

    turn: Turn
    pages: Pages


_memories: dict[str, _Memory] = {}  # by the domain's folder; shared by the threads and tasks of this process
_reserving: ContextVar[_Memory | None] = ContextVar("_reserving", default=None)  # by this task now


@contextlib.asynccontextmanager
async def reserve(config: iox2.config.Config, needed: int, what: str) -> AsyncIterator[None]:
    """Create something in the block: `needed` bytes are free when it begins, and set aside when it ends.

    A reservation within another one of the same domain does nothing: the outer one is for all that is created in it,
    and looks through the domain's files once and not for each.

    Waits for up to 2 s for memory, then raises `SharedMemoryFull`. Raises it as well if there is too little memory at
    the end after all; then the caller has to let go of what was created. How long it waits for other processes that
    open something is said at `Turn`.
    """
    memory = _memory_of(config)
    if _reserving.get() is memory:
        yield
        return
    await trio.lowlevel.checkpoint()  # a process that opens a thousand things still gives signs of life
    deadline, pauses = None, PAUSES.delays()
    while True:
        async with memory.turn.taken(what):
            if free_bytes() >= needed:
                outside = _reserving.set(memory)
                try:
                    yield
                finally:
                    _reserving.reset(outside)
                if needed:  # a notifier brings no file of its own
                    try:
                        memory.pages.take()
                    except OSError as exc:
                        raise refusal(what, exc, f"cannot take memory for {what}: {exc}") from exc
                return
        deadline = deadline or trio.current_time() + PATIENCE
        if trio.current_time() >= deadline:
            raise SharedMemoryFull(f"{what}, which needs {needed} bytes")
        await sleep(next(pauses))


def _memory_of(config: iox2.config.Config) -> _Memory:
    folder = config.global_cfg.root_path.to_string()
    return _memories.setdefault(folder, _Memory(Turn(folder), Pages(config.global_cfg.prefix.to_string())))
