"""A root file system of Debian with systemd, mosquitto, and this package in a virtual environment. It is made once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".venv-operate"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,mosquitto,mosquitto-clients,procps,util-linux,passwd"
HOME = "opt/greenhouse"
SITE = f"{HOME}/.venv/lib/python3.11/site-packages"
LIMIT = 240  # seconds of one step


def make_root() -> Path:
    """Return the folder of the file system; make it unless it is there. Skips where it can't be made."""
    if os.geteuid() != 0:
        pytest.skip("a root file system takes root to make")
    for tool in ("mmdebstrap", "systemd-nspawn", "nsenter", "unshare", "setpriv"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian: mmdebstrap, systemd-container, util-linux)")
    made_of = hashlib.sha256(Path(__file__).read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    root, stamp = FOLDER / "root", FOLDER / "root.made"
    if not stamp.is_file() or stamp.read_text() != made_of:
        FOLDER.mkdir(exist_ok=True)
        stamp.unlink(missing_ok=True)
        shutil.rmtree(root, ignore_errors=True)
        _step("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root))
        _install(root)
        stamp.write_text(made_of)
    return root


def _install(root: Path) -> None:
    """Install the package from wheels that this Python's pip gets: the file system needs no network of its own."""
    wheels = root / "wheels"
    _step(
        *(str(ROOT / ".venv/bin/python"), "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(wheels)),
        *("--prefer-binary", str(ROOT)),
    )
    if (found := subprocess.run(["chroot", root, "python3", "--version"], capture_output=True, text=True)).returncode:
        pytest.skip(f"the root file system does not run here: {found.stderr.strip()}")
    if "3.11" not in found.stdout:
        pytest.skip(f"Debian's Python is {found.stdout.strip()}: the wheels are for 3.11")
    python = f"/{HOME}/.venv/bin/python"
    _step("chroot", str(root), "useradd", "--system", "--no-create-home", "greenhouse")
    _step("chroot", str(root), "python3", "-m", "venv", f"/{HOME}/.venv")
    _step("chroot", str(root), python, "-m", "pip", "install", "--quiet", "--no-index", "-f", "/wheels", "taktora-trio")
    shutil.rmtree(wheels)


def _step(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{command[0]} has taken more than {LIMIT} s")
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        pytest.skip(f"{' '.join(command[:3])} has failed: {last[0]}")
