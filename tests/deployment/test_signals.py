"""What each signal does to a whole run, also where it was ignored or blocked by who started it."""

from __future__ import annotations

import signal

import pytest
import trio

from taktora_trio.transport.domain import Domain
from tests.command import MODES, open_command

WORKING = "tests.deployment.surrounded_apps:working"


def prepared(code: str) -> list[str]:
    """The command, in a process that runs this first."""
    return ["-c", f"import signal, runpy; {code}; runpy.run_module('taktora_trio', run_name='__main__')"]


@pytest.fixture(params=MODES)
def arguments(request: pytest.FixtureRequest, domain: Domain) -> list[str]:
    return ["run", WORKING, "--mode", request.param, "--domain", domain.name]


@pytest.mark.parametrize("count", [1, 2])
async def test_sighup_stops_politely_however_often_it_comes(arguments: list[str], count: int) -> None:
    """A terminal that closes sends two."""
    async with open_command(*arguments) as run:
        await run.until_printed("works")
        for _ in range(count):
            run.signal(signal.SIGHUP)
        assert await run.wait() == 0
    assert any("stopped politely" in line for line in run.output)


async def test_sighup_after_sigterm_does_not_force_it(arguments: list[str]) -> None:
    async with open_command(*arguments) as run:
        await run.until_printed("works")
        run.signal(signal.SIGTERM)
        run.signal(signal.SIGHUP)
        assert await run.wait() == 0
    assert any("stopped politely" in line for line in run.output)


async def test_under_nohup_it_goes_on(arguments: list[str]) -> None:
    async with open_command(*arguments, program=prepared("signal.signal(signal.SIGHUP, signal.SIG_IGN)")) as run:
        await run.until_printed("works")
        run.signal(signal.SIGHUP)
        await trio.sleep(0.3)  # nothing is to happen
        assert run.process.returncode is None
        assert not any("stopping" in entry["message"] for entry in run.log)
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


@pytest.mark.parametrize(
    "code",
    ["signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"],
    ids=["blocked", "ignored"],
)
async def test_sigterm_stops_it_whatever_it_has_inherited(arguments: list[str], code: str) -> None:
    async with open_command(*arguments, program=prepared(code)) as run:
        await run.until_printed("works")
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
    assert any("stopped politely" in line for line in run.output)


async def test_with_sigchld_ignored_it_is_known_how_a_half_has_ended(domain: Domain) -> None:
    """Else the kernel forgets it, and a crash looks like success."""
    target = "tests.deployment.surrounded_apps:failing"
    policy = "restart=never"
    async with open_command(
        *("run", target, "--mode", "split", "--domain", domain.name, "--plugin-policy", policy),
        program=prepared("signal.signal(signal.SIGCHLD, signal.SIG_IGN)"),
    ) as run:
        assert await run.wait() == 3
