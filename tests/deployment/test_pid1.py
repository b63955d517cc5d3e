"""As process 1 of a container, made by unshare(1): no zombies gather, signals arrive, its end is the container's."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from taktora_trio.transport.domain import Domain
from tests.command import MODES, open_command

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("unshare") is None, reason="only root may make a PID namespace, by unshare(1)"
)
APPS = "tests.deployment.surrounded_apps"
CONTAINED = [
    "-c",
    "import os, sys; os.execvp('unshare', ['unshare', '-pf', '--mount-proc', sys.executable, '-m', 'taktora_trio',"
    " *sys.argv[1:]])",
]


@pytest.mark.parametrize("mode", MODES)
async def test_no_zombies_gather_and_a_stop_is_polite(mode: str, domain: Domain) -> None:
    arguments = ["run", f"{APPS}:orphans", "--mode", mode, "--domain", domain.name]
    async with open_command(*arguments, program=CONTAINED) as run:
        await run.until_printed("own child 7")
        await run.until_printed("no zombies")
        run.signal(signal.SIGTERM, run.tree()[1].pid)
        assert await run.wait() == 0


async def test_its_exit_code_is_the_runs(domain: Domain) -> None:
    arguments = ["run", f"{APPS}:failing", "--mode", "in-process", "--domain", domain.name]
    async with open_command(*arguments, program=CONTAINED) as run:
        assert await run.wait() == 3
    domain.remove_if_alone()


async def test_what_kills_the_run_is_told_as_a_shell_does(domain: Domain) -> None:
    async with open_command("plugin", f"{APPS}:working", "--domain", domain.name, program=CONTAINED) as run:
        await run.until_printed("works")
        run.signal(signal.SIGKILL, run.tree()[-1].pid)
        assert await run.wait() == 128 + signal.SIGKILL
    domain.remove_if_alone()
