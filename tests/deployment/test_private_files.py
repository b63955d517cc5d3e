"""Every file of a run is for its user alone, whatever the umask."""

from __future__ import annotations

import os
import signal
import stat
import subprocess

import pytest

from taktora_trio.transport.domain import Domain
from tests.command import MODES, open_command
from tests.mosquitto import Mosquitto

# In the words of umask(2): nothing is masked.
OPEN_HANDED = "import os, runpy; os.umask(0); runpy.run_module('taktora_trio', run_name='__main__')"


def opened_by_another_user(domain: Domain) -> list[str]:
    """What another user can open for reading and writing, or remove, by names that it may be told."""
    if os.geteuid() != 0:
        return []
    attempt = 'for f; do if true <>"$f" || rm -f "$f"; then echo "$f"; fi; done 2>/dev/null'
    other = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "sh", "-c", attempt, "sh"]
    done = subprocess.run([*other, *map(str, domain.files())], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def readable_by_others(domain: Domain) -> list[str]:
    files = [path for path in domain.files() if not path.is_dir()]
    assert len(files) > 20
    there = [(path, path.lstat()) for path in files if path.exists()]
    assert stat.S_IMODE(domain.root.stat().st_mode) == stat.S_IMODE(domain.root.parent.stat().st_mode) == 0o700
    return [
        f"{stat.S_IMODE(each.st_mode):04o} {path}"
        for path, each in there
        if each.st_mode & 0o077 or each.st_uid != os.geteuid()
    ]


@pytest.mark.parametrize("mode", MODES)
async def test_no_file_of_a_run_can_be_used_by_others(mode: str, broker: Mosquitto, domain: Domain) -> None:
    arguments = ["examples.echo:deployment", "--mode", mode, "--broker", broker.url, "--domain", domain.name]
    async with open_command("run", *arguments, program=("-c", OPEN_HANDED)) as run:
        await run.until_event("health-up")
        assert readable_by_others(domain) == opened_by_another_user(domain) == []
        if mode == "split":
            for half in ("gateway", "plugin"):
                run.signal(signal.SIGKILL, run.half(half))
                await run.until_event("process-started", half=half, count=2)
                await run.until_event("health-up", count=2 if half == "gateway" else 3)
                assert readable_by_others(domain) == []
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
