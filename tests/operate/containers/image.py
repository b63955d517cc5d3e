"""The image of the tests' app: by the Containerfile that operators get, on a root file system of Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.command import ROOT
from tests.operate.containers.machine import CannotRun, Podman

__all__ = ["CONTAINERFILE", "IMAGE", "NEXT", "build_image"]

CONTAINERFILE = ROOT / "supervisors/container/Containerfile"
IMAGE, NEXT = "localhost/greenhouse:1", "localhost/greenhouse:2"
BASE = "localhost/debian-python"
_PACKAGES = "base-files,coreutils,dash,libc-bin,procps,python3,python3-venv"
_KEPT = ROOT / ".venv/containers/base.tar"  # half a minute; made once


def build_image(podman: Podman) -> None:
    """Build two versions. Raises `CannotRun` where no Debian packages can be had."""
    if sys.version_info[:2] != (3, 11):
        raise CannotRun("the image has Debian's Python 3.11, and wheels of this Python would not go with it")
    if not _KEPT.exists():
        _make_base()
    podman("import", str(_KEPT), BASE)
    project = podman.folder / "project"
    shutil.copytree(Path(__file__).parent / "greenhouse", project, ignore=shutil.ignore_patterns("__pycache__"))
    wheels = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(project / "wheels")]
    subprocess.run([*wheels, str(ROOT), "hatchling"], check=True, capture_output=True, text=True, timeout=120)
    build = [
        "build",
        "--quiet",
        "--isolation=chroot",
        "--network=host",
        f"--signature-policy={podman.folder}/policy.json",
    ]
    own = ["--build-arg", f"BASE={BASE}", "--build-arg", "PIP_NO_INDEX=1", "--file", str(CONTAINERFILE)]
    podman(*build, *own, "--tag", IMAGE, str(project), seconds=180)
    following = podman.folder / "Containerfile.next"
    following.write_text(f"FROM {IMAGE}\nENV GREENHOUSE_VERSION=2\n")
    podman(*build, "--file", str(following), "--tag", NEXT, str(podman.folder / "run"))


def _make_base() -> None:
    """Unpack the packages, without their maintainers' scripts: nothing of them is needed to run Python."""
    _KEPT.parent.mkdir(parents=True, exist_ok=True)
    part = _KEPT.with_suffix(f".{os.getpid()}.tar")
    made = subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=extract", f"--include={_PACKAGES}", "--aptopt=Acquire::Languages \"none\"",
         "bookworm", part, "http://deb.debian.org/debian"],
        capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    if made.returncode:
        part.unlink(missing_ok=True)
        raise CannotRun(f"no root file system of Debian's packages: {made.stderr.strip().splitlines()[-1]}")
    part.rename(_KEPT)
