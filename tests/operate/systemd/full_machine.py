"""A whole machine by qemu: its kernel has the memory controller of cgroup v2, which a container here has not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.operate.systemd.machine import write_files
from tests.operate.systemd.root import HOME, ROOT, SITE, make_kernel, make_root

_SCENARIO = """\
[Unit]
After=mosquitto.service

[Service]
Type=oneshot
ExecStart=/bin/bash /scenario.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0

[Install]
WantedBy=multi-user.target
"""
_IMAGE = """
mount -t tmpfs tmpfs "$1" && mkdir "$1/upper" "$1/work" "$1/root" &&
mount -t overlay overlay -o "lowerdir=$2:$3,upperdir=$1/upper,workdir=$1/work" "$1/root" &&
mke2fs -q -t ext4 -O ^has_journal -d "$1/root" "$4" 900M
"""


def run_in_full_machine(folder: Path, script: Path, seconds: float) -> dict[str, str]:
    """Boot, run a script as the last unit, and return its lines `FOUND NAME=VALUE`. Skips where it can't."""
    for tool in ("qemu-system-x86_64", "mke2fs"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian: qemu-system-x86, e2fsprogs)")
    root, (kernel, initrd) = make_root(), make_kernel()
    files, memory, image = write_files(folder / "files"), folder / "memory", folder / "image"
    memory.mkdir()
    shutil.copy(script, files / "scenario.sh")
    (files / "etc/systemd/system/scenario.service").write_text(_SCENARIO)
    slow = files / "etc/systemd/system/greenhouse.service.d/slow.conf"
    slow.parent.mkdir()
    slow.write_text("[Service]\nTimeoutStartSec=600\nWatchdogSec=100\n")  # a Python starts in 5 to 30 s there
    patient = "".join(f"[policy.{half}]\nstart_timeout = 300\nwatchdog = 100\n" for half in ("plugin", "gateway"))
    (files / HOME / "taktora.toml").write_text(patient)
    wants = files / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "scenario.service").symlink_to("/etc/systemd/system/scenario.service")
    shutil.copytree(ROOT / "taktora_trio", files / SITE / "taktora_trio")
    made = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", _IMAGE, "sh", memory, files, root, image],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    console = folder / "console"
    try:
        ended = subprocess.run(
            [
                *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off"),
                *("-smp", "2", "-m", "1G", "-nographic", "-no-reboot", "-nic", "none", "-monitor", "none"),
                *("-serial", f"file:{console}", "-drive", f"file={image},if=virtio,format=raw,cache=unsafe"),
                *("-kernel", kernel, "-initrd", initrd),
                *("-append", "root=/dev/vda rw console=ttyS0"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        said = f"an emulated machine is not done within {seconds:g} s: {console.read_text(errors='replace')[-1000:]}"
        (pytest.skip if "OPERATE_UNTIL" in os.environ else pytest.fail)(said)
    said = console.read_text(errors="replace")
    found = dict(re.findall(r"FOUND (\w+)=(.*?)\r?\n", said))
    assert "last" in found, f"{ended.stderr}{said[-4000:]}"
    return found
