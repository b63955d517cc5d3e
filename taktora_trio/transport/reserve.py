"""Room in /dev/shm: everything is taken when something is opened, and one process of a domain opens at a time.

A file in /dev/shm gets a page when that is first written to, and where none is left the kernel ends the writer with
SIGBUS. So before anything is created this looks whether there is room, and afterwards it has every page of it set
aside: what is open goes on at full speed however full /dev/shm runs, and only who opens something then gets an error.

iceoryx2 connects two ports in the one that comes second, before the first can see it. As they are opened one at a
time, sending and receiving never create anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path

import iceoryx2 as iox2
import trio

from taktora_trio.errors import TransportError

__all__ = ["GIVE_WAY", "PAGE", "SHM", "NoRoom", "free_bytes", "in_pages", "room"]

SHM = Path("/dev/shm")  # noqa: S108 - POSIX shared memory on Linux (shm_overview(7))
PAGE = 4096
# Nothing announces that there is room again. Shorter than a start may take, so that it is told what was missing.
PATIENCE = 2.0
# The other half, which opens its end of the same channels at the same time, is done after 1 to 3 ms.
_PAUSES = 0.001, 0.01
GIVE_WAY = 0.015
"""Who opens many things in several rooms waits so long in between, in seconds, so that others have a turn."""
# By prefix, the files that have all their pages, by name and inode: no later file is the same. To look at each again at
# every opening took a deployment of 200 channels two minutes to start.
_complete: dict[str, set[tuple[str, int]]] = {}
# The folder of the domain in whose room this task is.
_inside: ContextVar[str | None] = ContextVar("_inside", default=None)


class NoRoom(TransportError):
    """Shared memory is too full to open something. What is open goes on, and another try may find room."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"no room for {what}: {SHM} has {free_bytes()} bytes free; remove what fills it, or enlarge it"
            " (docker run --shm-size, mount -o remount,size=)"
        )


def free_bytes() -> int:
    """What /dev/shm has free now."""
    stat = os.statvfs(SHM)
    return stat.f_bavail * stat.f_frsize


def in_pages(count: int) -> int:
    """The bytes that a file of `count` bytes takes."""
    return -(-count // PAGE) * PAGE


@contextlib.asynccontextmanager
async def room(config: iox2.config.Config, needed: int, what: str) -> AsyncIterator[None]:
    """Create something in the block: there are `needed` bytes for it when it begins, and they are taken when it ends.

    In a block for many things at once, a room for one of them has nothing more to do, and the domain's files are looked
    through once and not for each.

    Waits for up to 2 s, then raises `NoRoom`; so it does if there is no room at the end after all, and the caller has
    to let go of what was created. Raises `TransportError` if another process is opening one thing all that time.
    """
    folder = config.global_cfg.root_path.to_string()
    if _inside.get() == folder:
        os.utime(folder)
        yield
        return
    await trio.lowlevel.checkpoint()  # who opens a thousand things still gives signs of life
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        pause, longest_pause = _PAUSES
        deadline, turn = trio.current_time() + PATIENCE, os.fstat(root).st_mtime_ns
        while True:
            if alone := _lock(root):
                os.utime(root)  # that others see that there is progress, for who opens many is hard to get past
                if free_bytes() >= needed:
                    break
                fcntl.flock(root, fcntl.LOCK_UN)
            elif turn != (turn := os.fstat(root).st_mtime_ns):
                deadline = trio.current_time() + PATIENCE
            if trio.current_time() < deadline:
                await trio.sleep(pause)
                pause = min(2 * pause, longest_pause)
            elif alone:
                raise NoRoom(f"{what}, which needs {needed} bytes")
            else:
                raise TransportError(
                    f"cannot open {what}: another process of its domain has not finished opening; end it"
                )
        outside = _inside.set(folder)
        try:
            yield
        finally:
            _inside.reset(outside)
        try:
            if needed:  # a notifier brings no file of its own
                _take(config.global_cfg.prefix.to_string())
        except OSError as exc:
            raise NoRoom(what) from exc
    finally:
        os.close(root)


def _lock(fd: int) -> bool:
    """Never waits: who has the lock may be stopped. The kernel releases it however a process ends."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take(prefix: str) -> None:
    """Set aside the pages that segments of the domain do not have yet. Blocks, about 0.1 s for each GiB."""
    with os.scandir(SHM) as entries:
        present = {(entry.name, entry.inode()) for entry in entries if entry.name.startswith(prefix)}
    known = _complete.get(prefix, set())
    complete = present & known
    for name, inode in present - known:
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if _fill(SHM / name):
                complete.add((name, inode))
    _complete[prefix] = complete


def _fill(path: Path) -> bool:
    """Set aside every page of a file; `False` if it has no size yet."""
    stat = path.stat()
    if stat.st_blocks * 512 < in_pages(stat.st_size):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.posix_fallocate(fd, 0, stat.st_size)
        finally:
            os.close(fd)
    return stat.st_size > 0
