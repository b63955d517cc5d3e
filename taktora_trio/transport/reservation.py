"""Room in /dev/shm: everything is taken when something is opened, and the processes of a domain open in turn.

A file in /dev/shm gets a page when that is first written to, and where none is left the kernel ends the writer with
SIGBUS. So before anything is created this looks whether there is room, and afterwards it has every page of it set
aside: what is open goes on at full speed however full /dev/shm runs, and only who opens something then gets an error.

iceoryx2 connects two ports in the one that comes second, before the first can see it. As they are opened in turn,
sending and receiving never create anything. But nobody depends on another for it: whoever is stopped, or opens for too
long, is passed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path

import iceoryx2 as iox2
import trio

from taktora_trio.errors import TransportError
from taktora_trio.transport.descriptors import refusal
from taktora_trio.transport.locks import holder_of, is_stopped, release, try_lock
from taktora_trio.transport.segments import SHM, Segment, SharedMemoryFull, entries, examine, free_bytes, in_pages

__all__ = ["GIVE_WAY", "reserve", "sleep"]

log = logging.getLogger(__name__)

# Nothing announces that there is room again. Shorter than a start may take, so that it is told what was missing.
PATIENCE = 2.0
# Nothing announces that a lock is free. The other half, which opens its end of the same channels at the same time, is
# done after 1 to 3 ms.
_PAUSES = 0.001, 0.01
GIVE_WAY = 0.015
"""Who opens many things in several rooms waits so long in between, in seconds, so that others have a turn."""
_TURN = "opening"
# By folder: between the threads and tasks of this process, for whom its lock is one and the same.
_turns: dict[str, threading.Lock] = {}
_passed: set[int] = set()  # process ids that were waited for long enough
# By prefix, the files that have all their pages, by name and inode: no later file is the same. To look at each again at
# every opening took a deployment of 200 channels two minutes to start.
_complete: dict[str, set[tuple[str, int]]] = {}
# The folder of the domain in whose room this task is.
_inside: ContextVar[str | None] = ContextVar("_inside", default=None)


async def sleep(seconds: float) -> None:
    """Like `trio.sleep`, in a task of its own.

    It ends by an exception, whose traceback keeps every frame that waits alive until garbage is collected (since Python
    3.12, by `f_back`), and with ours a node, whose files would stay.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, seconds)


@contextlib.asynccontextmanager
async def reserve(config: iox2.config.Config, needed: int, what: str) -> AsyncIterator[None]:
    """Create something in the block: there are `needed` bytes for it when it begins, and they are taken when it ends.

    In a block for many things at once, a room for one of them has nothing more to do, and the domain's files are looked
    through once and not for each.

    Waits for up to 2 s for memory, then raises `SharedMemoryFull`; so it does if there is no room at the end after all,
    and the caller has to let go of what was created. Waits no longer for another that opens something, and not at all
    for one that is stopped; then it goes on beside it.
    """
    folder = config.global_cfg.root_path.to_string()
    if _inside.get() == folder:
        yield
        return
    await trio.lowlevel.checkpoint()  # who opens a thousand things still gives signs of life
    deadline, pause = None, _PAUSES[0]
    while True:
        async with _turn(folder, what):
            if free_bytes() >= needed:
                outside = _inside.set(folder)
                try:
                    yield
                finally:
                    _inside.reset(outside)
                if needed:  # a notifier brings no file of its own
                    try:
                        _take(config.global_cfg.prefix.to_string())
                    except OSError as exc:
                        raise refusal(what, exc, f"cannot take memory for {what}: {exc}") from exc
                return
        deadline = deadline or trio.current_time() + PATIENCE
        if trio.current_time() >= deadline:
            raise SharedMemoryFull(f"{what}, which needs {needed} bytes")
        await sleep(pause)
        pause = min(2 * pause, _PAUSES[1])


@contextlib.asynccontextmanager
async def _turn(folder: str, what: str) -> AsyncIterator[None]:
    """Nobody else opens anything in the block, but who was waited for long enough."""
    mine = await _take_turn(folder, what)
    try:
        yield
    finally:
        if mine:
            release(folder, _TURN)
            _turns[folder].release()


async def _take_turn(folder: str, what: str) -> bool:
    here = _turns.setdefault(folder, threading.Lock())
    deadline, pause = trio.current_time() + PATIENCE, _PAUSES[0]
    while True:
        if here.acquire(blocking=False):
            with contextlib.ExitStack() as undo:
                undo.callback(here.release)
                if try_lock(folder, _TURN):
                    undo.pop_all()
                    _passed.clear()
                    return True
        pid = holder_of(folder, _TURN)
        if pid is not None:  # else it is free again
            if pid in _passed:
                return False
            stands_still = pid > 0 and is_stopped(pid)
            if stands_still or trio.current_time() >= deadline:
                why = "stands still" if stands_still else "is still opening something"
                log.warning("opening %s beside process %s, which %s", what, pid or "unknown", why)
                _passed.add(pid)
                return False
        await sleep(pause)
        pause = min(2 * pause, _PAUSES[1])


def _take(prefix: str) -> None:
    """Set aside the pages that segments of the domain do not have yet. Blocks, about 0.1 s for each GiB.

    Raises `TransportError` if iceoryx2 has opened one that another user has made.
    """
    present = {(entry.name, entry.inode()): entry for entry in entries(prefix)}
    complete = present.keys() & _complete.get(prefix, set())
    ours, others = examine(entry for identity, entry in present.items() if identity not in complete)
    for segment in ours:
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if _fill(segment):
                complete.add((segment.name, segment.inode))
    _complete[prefix] = complete
    if others:
        mapped = {f"/{line.partition('/')[2]}" for line in Path("/proc/self/maps").read_text().splitlines()}
        for name in others:
            if str(SHM / name) in mapped:
                raise TransportError(f"{SHM / name} was made by another user, to be mistaken for ours: have it removed")


def _fill(segment: Segment) -> bool:
    """Set aside every page of a segment, for its owner alone; `False` if it has no size yet."""
    others = segment.mode & (stat.S_IRWXG | stat.S_IRWXO)
    if others or segment.taken < in_pages(segment.size):
        fd = os.open(segment.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if others:  # decision 13: none of iceoryx2 0.10
                os.fchmod(fd, stat.S_IRUSR | stat.S_IWUSR)
            if segment.size > 0:
                os.posix_fallocate(fd, 0, segment.size)
        finally:
            os.close(fd)
    return segment.size > 0
