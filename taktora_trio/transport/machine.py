"""The identity of this machine, and the part of it that may be another at the next start."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["machine_id", "temporary_origin"]

_MACHINE_ID = Path("/etc/machine-id")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Left by systemd-nspawn and others (systemd's Container Interface), by podman, and by Docker.
_MARKS = (Path("/run/systemd/container"), Path("/run/.containerenv"), Path("/.dockerenv"))
_VARIABLES = ("container", "KUBERNETES_SERVICE_HOST")


def machine_id() -> str:
    """Return the id of the machine (machine-id(5)), or else of this boot; an empty text if there is neither."""
    return _text(_MACHINE_ID) or _text(_BOOT_ID)


def temporary_origin() -> str | None:
    """Return the part of a name made here that the next start may not have; `None` if it has the same.

    A container's successor has another host name, unless somebody sees to it, and the machine id, if any, of its image.
    """
    if any(mark.exists() for mark in _MARKS) or any(variable in os.environ for variable in _VARIABLES):
        return "this container's host name"
    return None if _text(_MACHINE_ID) else "this boot's id, since there is no /etc/machine-id"


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text().strip()
    return ""
