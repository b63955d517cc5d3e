"""The folder of what is to outlive a program and a boot of the machine."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["deployment_folder", "make_private", "state_folder", "sync_folders"]


def state_folder() -> Path:
    """Return the folder for what is to outlive a program and a boot of the machine.

    systemd sets `STATE_DIRECTORY` for a unit with `StateDirectory=` (systemd.exec(5)). `XDG_STATE_HOME` is the user's,
    `~/.local/state` by default (XDG Base Directory Specification). Raises `OSError` where there is no home.
    """
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    given = os.environ.get("XDG_STATE_HOME", "")
    if given.startswith("/"):  # the specification has others ignored
        return Path(given) / "taktora-trio"
    try:
        return Path("~/.local/state/taktora-trio").expanduser()
    except RuntimeError:
        raise FileNotFoundError("there is no home directory") from None


def deployment_folder(domain: str, given: Path | None = None) -> Path:
    """Return the folder of one deployment, by the name of its domain: the one that its app has given, or one of ours.

    Raises `OSError` where there is no home.
    """
    return state_folder() / "deployments" / domain if given is None else given


def make_private(folder: Path) -> None:
    """Make the folder, and those above it that are missing, readable by their owner alone. Raises `OSError`."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):  # `parents=True` would make those above readable by everybody
        one.mkdir(mode=0o700, exist_ok=True)


def sync_folders(folder: Path) -> None:
    """Have this folder reach the disk, and those above it that are ours, whoever has made them. Raises `OSError`.

    Else a power cut could take a file with its folder, though the file itself was synced.
    """
    for one in (folder, *folder.parents):
        if one.stat().st_uid != os.geteuid():
            break
        fd = os.open(one, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
