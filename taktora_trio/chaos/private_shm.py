"""A small /dev/shm of our own, in a mount namespace of our own: the only one that a fault may fill."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from taktora_trio.transport.segments import SHM

__all__ = ["enter", "fill", "is_private"]

_MARK = "taktora-chaos"  # the source under which our file system is listed
_SIZE = 16 * 2**20  # bytes; the app under test needs less than one of them
_MOUNT = f"mount -t tmpfs -o size={_SIZE},mode=1777 {_MARK} {SHM}"
_PROBE_TIMEOUT = 10
_BLOCK = 2**16


def is_private() -> bool:
    """Return true if /dev/shm is the one that `enter` has mounted, so that nobody else's files are there."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    # proc(5): the mount point is field 5; file system and source follow the hyphen. The last one mounted is on top.
    here = [fields[fields.index("-") + 1 :] for fields in mounts if fields[4] == str(SHM)]
    return bool(here) and here[-1][:2] == ["tmpfs", _MARK]


def enter(arguments: Sequence[str]) -> None:
    """Replace this process by `taktora-trio ARGUMENTS` with such a /dev/shm. Returns if it has one, or can't."""
    if is_private():
        return
    for namespace in (["-m"], ["-Urm"]):  # as root, or as a user who is root in a namespace of their own
        if _is_possible(namespace):
            script = f'{_MOUNT} && exec "$@"'
            again = [sys.executable, "-m", "taktora_trio", *arguments]
            sys.stdout.flush()
            os.execvp("unshare", ["unshare", *namespace, "sh", "-c", script, "sh", *again])  # noqa: S606, S607


def _is_possible(namespace: Sequence[str]) -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", *namespace, "sh", "-c", _MOUNT]
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(probe, capture_output=True, timeout=_PROBE_TIMEOUT).returncode == 0
    return False


class Ballast:
    """A file that takes all the space there is."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def grow(self) -> None:
        """Take what is free now, to the last byte."""
        for size in (_BLOCK, 1):
            with contextlib.suppress(OSError):  # ENOSPC: that is the point
                while True:
                    os.write(self._fd, b"\0" * size)


@contextlib.contextmanager
def fill() -> Iterator[Ballast]:
    """Leave nobody any room in /dev/shm while the block lasts. Refuses to fill any other than our own."""
    if not is_private():
        raise RuntimeError(f"{SHM} is not ours to fill")
    path = SHM / "chaos-ballast"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        ballast = Ballast(fd)
        ballast.grow()
        yield ballast
    finally:
        os.close(fd)
        path.unlink()
