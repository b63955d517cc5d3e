"""The limit of descriptors: raised where connectors take much of it, and what the app starts inherits the old one."""

from __future__ import annotations

import re

import pytest

from taktora_trio.transport.domain import Domain
from tests.command import MODES, Command, open_command

APPS = "tests.deployment.surrounded_apps"
HARD = 4096


def limited(soft: int) -> list[str]:
    """The command, started with that soft limit."""
    code = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {HARD}))"
    return ["-c", f"{code}; runpy.run_module('taktora_trio', run_name='__main__')"]


async def limits(run: Command) -> dict[str, tuple[int, int]]:
    """Of the app's process, of a program that it started, of a fork: the soft and the hard one."""
    found = {}
    for who in ("own", "started", "forked"):
        words = re.search(rf"{who} (\d+) (\d+)", await run.until_printed(f"{who} "))
        assert words is not None
        found[who] = (int(words[1]), int(words[2]))
    return found


@pytest.mark.parametrize("mode", MODES)
async def test_where_it_suffices_it_is_left_alone(mode: str, domain: Domain) -> None:
    arguments = ["run", f"{APPS}:few", "--mode", mode, "--domain", domain.name]
    async with open_command(*arguments, program=limited(1024)) as run:
        assert set((await limits(run)).values()) == {(1024, HARD)}
        assert await run.wait() == 0


@pytest.mark.parametrize("mode", MODES)
async def test_where_connectors_take_most_of_it_so_many_more_are_allowed(mode: str, domain: Domain) -> None:
    arguments = ["run", f"{APPS}:many", "--mode", mode, "--domain", domain.name]
    async with open_command(*arguments, program=limited(160)) as run:
        await run.until_printed("all open")
        found = await limits(run)
        needed = 20 * {"in-process": 12 + 2 * 31, "split": 31}[mode]  # of a connector with one channel
        assert found["own"] == (160 + needed, HARD)
        assert found["forked"] == (160, HARD), "though our supervisor has raised its own"
        assert await run.wait() == 0


@pytest.mark.parametrize("mode", MODES)
async def test_a_hard_limit_below_is_told(mode: str, domain: Domain) -> None:
    code = "import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))"
    program = ["-c", f"{code}; runpy.run_module('taktora_trio', run_name='__main__')"]
    async with open_command("run", f"{APPS}:many", "--mode", mode, "--domain", domain.name, program=program) as run:
        assert await run.wait() == 2
    [line] = run.stderr
    assert "of 160 are in use" in line
