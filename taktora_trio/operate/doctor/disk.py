"""The folders on disk: of the stores, and of dead letters."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from taktora_trio.connectors.finding import Finding, fail, ok, warn
from taktora_trio.errors import ConfigError
from taktora_trio.runners.deployment import Deployment
from taktora_trio.statefolder import state_folder
from taktora_trio.store import check_store
from taktora_trio.transport.sizing import size_text

__all__ = ["examine_disk", "examine_state_folder"]

_SLOW = 0.1  # seconds of a write that is on the disk when it returns
_STATE = "set STATE_DIRECTORY (StateDirectory= of a unit) or XDG_STATE_HOME to a folder that this user can write to"
_MOUNTS = Path("/proc/self/mounts")
_IN_MEMORY = ("tmpfs", "ramfs")


def examine_state_folder() -> Iterator[Finding]:
    """Yield whether the folder for what outlives a boot can be used: dead letters, stores, records of sessions."""
    try:
        folder = state_folder()
    except OSError as exc:
        yield warn("state", f"there is no folder for what is to outlive a run: {exc}", _STATE)
        return
    if refusal := _refusal(folder):
        yield warn("state", f"{folder}: {refusal}: dead letters and records of sessions can't be kept", _STATE)
    else:
        yield ok("state", f"{folder}, {size_text(_free(folder))} free")


def examine_disk(deployment: Deployment, domain: str, *, runs: bool) -> Iterator[Finding]:
    """Yield what is to be said of each store of a deployment. Blocks on the disk."""
    try:
        stores = {**deployment.stores(domain), **deployment.inbound_stores(domain)}
    except ConfigError as exc:
        yield fail("store", str(exc), _STATE)
        return
    for name, store in stores.items():
        most = store.shared.max_bytes
        where = f"store of {name} in {store.folder}"
        if refusal := _refusal(store.folder):
            yield fail("store", f"{where}: {refusal}", "give another folder by --store, or mend this one")
            continue
        free, used = _free(store.folder), _used(store.folder)
        text = f"{where}: at most {size_text(most)}, {size_text(used)} in use, {size_text(free)} free there"
        if free + used < most:
            yield warn("store", text, "free some of the disk, or lower max_bytes: a full disk is met before the limit")
        elif _kind(store.folder) in _IN_MEMORY:
            yield warn("store", f"{text}; it is in memory, and a boot empties it", "give a folder on a disk by --store")
        else:
            yield ok("store", text)
        yield _speed(store.folder)
        if store.folder.is_dir() and not runs:  # else it would be made
            try:
                check_store(store.folder, identity=store.identity)
            except ConfigError as exc:
                yield fail("store", str(exc), "mend what this says: a run would not start")


def _refusal(folder: Path) -> str:
    """Return why this user can't write there; empty if he can. A folder that is missing is made by a run."""
    there = _nearest(folder)
    if not there.is_dir():
        return f"{there} is no folder"
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return "its disk is mounted read-only"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"this user may not write to {there}"
    if os.statvfs(there).f_files and not os.statvfs(there).f_favail:
        return "its disk takes no more files"
    return ""


def _nearest(folder: Path) -> Path:
    for one in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            if one.exists():
                return one
    return Path("/")


def _free(folder: Path) -> int:
    there = os.statvfs(_nearest(folder))
    return there.f_bavail * there.f_frsize


def _used(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(one.stat().st_size for one in folder.iterdir() if one.is_file())
    return 0


def _kind(folder: Path) -> str:
    """Return the kind of file system, such as `ext4`; empty if that can't be told."""
    device = os.stat(_nearest(folder)).st_dev  # noqa: PTH116
    with contextlib.suppress(OSError):
        for line in _MOUNTS.read_text().splitlines():
            _, place, kind, *_ = line.split(" ")
            with contextlib.suppress(OSError):
                if os.stat(place.encode().decode("unicode_escape")).st_dev == device:  # noqa: PTH116
                    return kind
    return ""


def _speed(folder: Path) -> Finding:
    """Say how long the disk takes for a commit: a file beside the store, which is gone at once."""
    begun = time.perf_counter()
    try:
        with tempfile.TemporaryFile(dir=_nearest(folder)) as file:
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())
    except OSError as exc:
        return fail("sync", f"can't write to {folder}: {exc.strerror}", "free some of the disk, or give another folder")
    took = time.perf_counter() - begun
    text = f"its disk takes {1000 * took:.1f} ms for a commit"
    if took > _SLOW:
        return warn(
            "sync", text, "expect that much delay before a message is stored; or give a folder on a faster disk"
        )
    return ok("sync", text)
