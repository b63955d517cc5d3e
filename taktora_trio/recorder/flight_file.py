"""Writes one file of the flight recorder: `python -m taktora_trio.recorder.flight_file ABOUT`.

It is a process of its own, so that the app's does not import what it needs, and does not wait for the disk. It leaves
the processor to others. It writes the path to standard output.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

import taktora_trio
from taktora_trio.errors import ConfigError, ConnectorError, TransportError
from taktora_trio.escaping import escaped
from taktora_trio.recorder.flight_content import add_messages, add_rings, add_vitals, forget_left
from taktora_trio.recorder.writing import open_recording
from taktora_trio.runners.this_process.outcome import call, show
from taktora_trio.statefolder import make_private
from taktora_trio.transport.domain import Domain

__all__ = ["About", "write_flight"]

_FILES, _BYTES = 20, 64 * 2**20  # that are kept
_FREE = 64 * 2**20  # bytes that stay free on the disk, for what is worth more
_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}-[\w.-]+\.mcap(\.unfinished)?")


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written, and why."""

    domain: str
    folder: str
    why: str
    messages: bool = False
    skipped: int = 0
    """For so many there was no file, since the one before was too near."""


def write_flight(about: About) -> Path:
    """Write the file, remove the oldest ones, and return its path. Raises `ConnectorError` in one line."""
    folder, domain = Path(about.folder), Domain(about.domain)
    now = datetime.now(UTC)
    slug = re.sub(r"[^\w.]+", "-", about.why, flags=re.ASCII)[:40].strip("-.") or "file"
    path = folder / f"{now:%Y%m%dT%H%M%S.%f}-{slug}.mcap"
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        make_private(folder)
        _make_room(folder, _FILES - 1)
        _check_free(folder)
    except OSError as exc:
        raise ConfigError(f"cannot use {escaped(str(folder))}: {exc.strerror}") from None
    said = {"kind": "flight", "domain": domain.name, "version": taktora_trio.__version__, "why": about.why}
    try:
        with open_recording(unfinished, {**said, "skipped": str(about.skipped)}) as recording:
            add_rings(recording, domain)
            add_vitals(recording, domain)
            if about.messages:
                with contextlib.suppress(ConfigError, TransportError):
                    add_messages(recording, domain)
        unfinished.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    _make_room(folder, _FILES)
    forget_left(domain)
    return path


def _make_room(folder: Path, most: int) -> None:
    """Remove the oldest of our files, so that so many are left, of so many bytes; and what was never finished."""
    kept = size = 0
    for name in sorted(os.listdir(folder), reverse=True):
        if not _NAME.fullmatch(name):
            continue
        with contextlib.suppress(FileNotFoundError):
            there = (folder / name).lstat()
            kept, size = kept + 1, size + there.st_size
            is_left = name.endswith(".unfinished") and time.time() - there.st_mtime > 60
            if kept > most or size > _BYTES or is_left:
                (folder / name).unlink()


def _check_free(folder: Path) -> None:
    there = os.statvfs(folder)
    free = there.f_bavail * there.f_frsize
    if free < _FREE:
        raise ConnectorError(f"{free} bytes are free in {escaped(str(folder))}, and {_FREE} are left free for the rest")


def _main() -> int:
    os.nice(10)
    show(str(write_flight(msgspec.json.decode(sys.argv[1], type=About))))
    return 0


if __name__ == "__main__":
    sys.exit(call(_main))
