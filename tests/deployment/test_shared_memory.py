"""Shared memory that can't be used, or that others have prepared: one clear line and exit code 2, and no harm done.

Each command has a mount namespace with a /dev/shm of its own.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taktora_trio.transport.segments import SHM
from tests.command import MODES, ROOT
from tests.transport.test_full_memory import private_mount

OURS = f"{SHM}/taktora-{os.geteuid()}"
TMPFS = f"mount -t tmpfs -o mode=1777 tmpfs {SHM}"
SURROUNDINGS = {
    "read-only": (f"mount -t tmpfs -o ro tmpfs {SHM}", [OURS, "Read-only file system", "remount,rw"]),
    "missing": (
        "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9",
        [str(SHM), "No such file", "mount a tmpfs"],
    ),
    "a link of another user": (
        f"{TMPFS} && ln -s $DOCUMENTS {OURS} && chown -h 54321 {OURS}",
        [OURS, "is no folder", "let its owner or root remove it"],
    ),
    "a folder of another user, with a link": (
        f"{TMPFS} && mkdir {OURS} && ln -s $DOCUMENTS {OURS}/echo && chown 54321 {OURS}",
        [OURS, "belongs to another user (uid 54321)", "let its owner or root remove it"],
    ),
    "a folder that others may write to": (
        f"{TMPFS} && mkdir -m 777 {OURS}",
        [OURS, "can be written to by other users (mode 0777)", "let its owner or root remove it"],
    ),
    "few descriptors": (
        f"{TMPFS} && ulimit -n 40",
        ["too few descriptors", "of 40 are in use", "LimitNOFILE=", "ulimit -n"],
    ),
}


def run_in(setting: str, documents: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `taktora-trio ARGUMENTS` with what the shell commands in `setting` make of /dev/shm."""
    command = private_mount()
    if command is None or os.geteuid() != 0:
        pytest.skip("it takes root, and a mount namespace")
    program = [sys.executable, "-m", "taktora_trio", *arguments]
    return subprocess.run(
        [*command, "sh", "-c", f'{setting} && exec "$@"', "sh", *program],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        env={**os.environ, "DOCUMENTS": str(documents)},
        check=False,
    )


@pytest.mark.parametrize(
    ("surrounding", "mode"),
    [*zip(SURROUNDINGS, itertools.cycle(MODES), strict=False), ("few descriptors", "in-process")],
)
def test_it_is_one_line_and_exit_code_2(surrounding: str, mode: str, tmp_path: Path) -> None:
    setting, expected = SURROUNDINGS[surrounding]
    thesis = tmp_path / "thesis"
    thesis.write_text("years of work")
    done = run_in(setting, tmp_path, "run", "examples.echo:deployment", "--mode", mode, "--await-broker")
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("taktora-trio: ")
    for part in expected:
        assert part in line
    assert thesis.read_text() == "years of work"


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        (f"mount -t tmpfs -o size=64m tmpfs {SHM} && head -c 67M /dev/zero >{SHM}/anothers 2>/dev/null; :", 75),
        (f"mount -t tmpfs -o size=64k tmpfs {SHM}", 2),
    ],
    ids=["others fill it", "it is too small"],
)
def test_shared_memory_that_is_full_now_may_pass_and_one_that_is_too_small_does_not(
    setting: str, code: int, tmp_path: Path
) -> None:
    """A supervisor such as systemd tries another time after 75, and does not after 2."""
    done = run_in(setting, tmp_path, "plugin", "examples.echo:deployment")
    assert done.returncode == code, done.stderr
    assert "of shared memory and /dev/shm has" in done.stderr
