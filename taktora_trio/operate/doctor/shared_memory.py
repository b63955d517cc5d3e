"""Shared memory: the size and the rights of /dev/shm, and whether a deployment fits."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from taktora_trio.connectors.finding import Finding, fail, ok, warn
from taktora_trio.errors import ConnectorError
from taktora_trio.transport.folder import open_folder, user_folder
from taktora_trio.transport.segments import SHM
from taktora_trio.transport.sizing import plan_memory, size_text
from taktora_trio.transport.spec import TrunkSpec

__all__ = ["examine_shared_memory"]

_LITTLE = 16 * 2**20
_ENLARGE = f"enlarge {SHM}: mount -o remount,size=1g {SHM}, docker run --shm-size=256m; or remove what fills it"
_RIGHTS = f"as root: chown root:root {SHM} && chmod 1777 {SHM}"


def examine_shared_memory(specs: Sequence[TrunkSpec], *, runs: bool) -> Iterator[Finding]:
    """Yield what is to be said of /dev/shm, for a deployment with these connectors, which runs now or does not."""
    try:
        there, rights = os.statvfs(SHM), SHM.stat()
    except OSError as exc:
        yield fail("memory", f"{SHM}: {exc.strerror}", f"mount a tmpfs there, with mode 1777: mount -t tmpfs shm {SHM}")
        return
    total, free = there.f_blocks * there.f_frsize, there.f_bavail * there.f_frsize
    yield from _sizes(specs, total, free, runs=runs)
    if there.f_files and not there.f_favail:
        yield fail("memory", f"{SHM} takes no more files", f"allow more: mount -o remount,nr_inodes=64k {SHM}")
    yield _rights(rights, read_only=bool(there.f_flag & os.ST_RDONLY))
    if user_folder().exists():
        try:
            with open_folder():
                pass
        except ConnectorError as exc:
            yield fail("folder", str(exc), f"remove or mend {user_folder()}, as its owner or root")


def _sizes(specs: Sequence[TrunkSpec], total: int, free: int, *, runs: bool) -> Iterator[Finding]:
    text = f"{SHM} has {size_text(total)}, {size_text(free)} free"
    if not specs:
        yield warn("memory", text, _ENLARGE) if free < _LITTLE else ok("memory", text)
        return
    needed = plan_memory(specs).total_bytes
    text += f"; the deployment takes {size_text(needed)}"
    if runs:
        yield ok("memory", f"{text}, and has it")
    elif needed > free:
        yield fail(
            "memory", text, f"{_ENLARGE}; or lower max_payload and window (taktora-trio plan shows each channel)"
        )
    else:
        yield ok("memory", text)


def _rights(rights: os.stat_result, *, read_only: bool) -> Finding:
    mode = stat.S_IMODE(rights.st_mode)
    text = f"{SHM} is of uid {rights.st_uid}, mode {mode:04o}"
    if read_only:
        return fail("rights", f"{SHM} can't be written to", f"mount it so: mount -o remount,rw {SHM}")
    if not os.access(SHM, os.W_OK | os.X_OK):
        return fail("rights", f"{text}: this user can't make files there", _RIGHTS)
    if mode != 0o1777 and mode & stat.S_IWOTH:
        return warn("rights", f"{text}: each user may remove what others have there", _RIGHTS)
    if rights.st_uid not in (0, os.geteuid()):
        return warn("rights", f"{text}: its owner may remove what others have there", _RIGHTS)
    return ok("rights", text)
