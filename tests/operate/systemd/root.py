"""A root file system of Debian with systemd, mosquitto, and a virtual environment for this package, and a kernel."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".venv-operate"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,mosquitto,mosquitto-clients,procps,util-linux,passwd"
HOME = "opt/greenhouse"
SITE = f"{HOME}/.venv/lib/python3.11/site-packages"
LIMIT = 240  # seconds of one step


def make_root() -> Path:
    """Return the folder of the file system; make it unless it is there. Skips where it can't be made.

    Who comes while another process makes it waits for that one.
    """
    if os.geteuid() != 0:
        pytest.skip("a root file system takes root to make")
    for tool in ("mmdebstrap", "systemd-nspawn", "nsenter", "unshare", "setpriv"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian: mmdebstrap, systemd-container, util-linux)")
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    made_of = hashlib.sha256(repr(needs).encode() + Path(__file__).read_bytes()).hexdigest()
    root, stamp = FOLDER / "root", FOLDER / "root.made"
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "root.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text() != made_of:
            stamp.unlink(missing_ok=True)
            shutil.rmtree(root, ignore_errors=True)
            _step("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root))
            _install(root, needs)
            stamp.write_text(made_of)
    return root


def make_kernel() -> tuple[Path, Path]:
    """Return Debian's kernel for virtual machines, and its initrd: nothing of them is installed on this machine."""
    folder = FOLDER / "kernel"
    kernel, initrd = folder / "vmlinuz", folder / "initrd.img"
    if not initrd.is_file():
        root = FOLDER / "kernel-root"
        shutil.rmtree(root, ignore_errors=True)
        packages = "linux-image-cloud-amd64,initramfs-tools"
        _step("mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", "bookworm", str(root))
        folder.mkdir(exist_ok=True)
        for path in (kernel, initrd):
            [found] = (root / "boot").glob(f"{path.name}-*")
            shutil.copy(found, path)
        shutil.rmtree(root)
    return kernel, initrd


def _install(root: Path, needs: list[str]) -> None:
    """Make a virtual environment with what the package needs, from wheels that this Python's pip gets.

    The package itself comes with the machine, as it is then.
    """
    found = subprocess.run(["chroot", root, "python3", "--version"], capture_output=True, text=True)
    if "3.11" not in found.stdout:
        pytest.skip(f"the root file system has no Python 3.11: {found.stdout}{found.stderr}".strip())
    home, wheels = root / HOME, root / "wheels"
    platform = ("--python-version", "3.11", "--only-binary", ":all:")
    _step(sys.executable, "-m", "pip", "download", "--quiet", *platform, "--dest", str(wheels), *needs)
    _step("chroot", str(root), "useradd", "--system", "--no-create-home", "greenhouse")
    _step("chroot", str(root), "python3", "-m", "venv", f"/{HOME}/.venv")
    install = (f"/{HOME}/.venv/bin/python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
    _step("chroot", str(root), *install, *(f"/wheels/{wheel.name}" for wheel in wheels.iterdir()))
    (root / SITE / "taktora_trio").mkdir()
    command = home / ".venv/bin/taktora-trio"
    command.write_text(f"#!/{HOME}/.venv/bin/python\nfrom taktora_trio.__main__ import main\n\nmain()\n")
    command.chmod(0o755)
    shutil.rmtree(wheels)


def _step(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{command[0]} has taken more than {LIMIT} s")
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        pytest.skip(f"{' '.join(command[:3])} has failed: {last[0]}")
