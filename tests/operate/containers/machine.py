"""A podman of the tests' own: its storage, its configuration, and its mounts. Nothing of the machine's is touched."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from tests.patience import PATIENCE

__all__ = ["CannotRun", "Podman", "open_podman"]

# The storage is in memory: on disk it would take half a minute to remove. Where cgroup v1 and v2 are both mounted, crun
# runs with v1 alone. All of these mounts are those of the holder's children only.
_HOLDER = """
mount --make-rprivate / || exit 1
mount -t tmpfs tmpfs "$1" || exit 1
! grep -q '^cgroup2 /sys/fs/cgroup/unified ' /proc/self/mounts || umount /sys/fs/cgroup/unified || exit 1
echo held
exec cat
"""


class CannotRun(Exception):
    """Podman does not work on this machine, with the reason."""


@attrs.frozen
class Podman:
    folder: Path
    environment: dict[str, str]
    holder: int
    """A process with the mounts in which podman runs."""

    def inside(self, *words: str) -> Sequence[str]:
        """Return a command that runs these words with podman's mounts."""
        return ["nsenter", f"--target={self.holder}", "--mount", "--wdns=/", "--", *words]

    def __call__(self, *words: str, seconds: float = 120, environment: dict[str, str] | None = None) -> str:
        """Run podman; return what it prints. Raises `AssertionError` if it fails, with what it says."""
        return self.run("podman", *words, seconds=seconds, environment=environment)

    def run(self, *words: str, seconds: float = 120, environment: dict[str, str] | None = None) -> str:
        ended = self.attempt(*words, seconds=seconds, environment=environment)
        assert ended.returncode == 0, f"{' '.join(words)}: {ended.stdout}{ended.stderr}"
        return ended.stdout.strip()

    def attempt(
        self, *words: str, seconds: float = 120, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.inside(*words),
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def until(self, true: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Look again and again, since podman announces nothing that could be waited for."""
        until = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < until, f"it did not come about in {seconds:g} s"
            time.sleep(0.05)


@contextlib.contextmanager
def open_podman(folder: Path) -> Iterator[Podman]:
    """Raises `CannotRun`. All that it has started ends with the block, and its storage with it."""
    if os.geteuid() != 0:
        raise CannotRun("these tests run podman as root")
    for tool in ("podman", "crun", "conmon", "catatonit", "mmdebstrap", "nsenter", "unshare"):
        if shutil.which(tool) is None:
            raise CannotRun(f"{tool} is not installed")
    environment = _configured(folder)
    (folder / "storage").mkdir()
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", _HOLDER, "sh", str(folder / "storage")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        if holder.stdout.readline() != "held\n":
            raise CannotRun("no mounts of one's own (unshare --mount) here")
        podman = Podman(folder, environment, holder.pid)
        try:
            yield podman
        finally:
            for words in (["pod", "rm"], ["rm"]):
                podman.attempt("podman", *words, "--all", "--force", "--time=0")
            podman.attempt("podman", "volume", "prune", "--force")
            holder.stdin.close()


def _configured(folder: Path) -> dict[str, str]:
    # By default podman asks for more than a machine without CAP_SYS_RESOURCE may give.
    own = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    limits = ["{0}={1}:{1}".format(name, _lowered(resource.getrlimit(each)[1])) for name, each in own.items()]
    (folder / "containers.conf").write_text(
        f"[containers]\ndefault_ulimits={limits}\n"
        f'[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\ntmp_dir="{folder}/tmp"\n'
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver="overlay"\ngraphroot="{folder}/storage"\nrunroot="{folder}/run"\n'
    )
    (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }


def _lowered(limit: int) -> int:
    return 16_384 if limit == resource.RLIM_INFINITY else min(limit, 16_384)
