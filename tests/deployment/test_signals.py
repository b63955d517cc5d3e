"""What each signal does to a whole run, also where it was ignored or blocked by who started it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

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


class Terminal:
    """A terminal, and what makes it the one of a process: its session's first terminal that it opens."""

    def __init__(self, master: int, name: str) -> None:
        self._master = master
        self.program = prepared(f"import os; os.setsid(); os.open({name!r}, os.O_RDWR)")

    def close(self) -> None:
        if self._master >= 0:
            os.close(self._master)
            self._master = -1


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    master, slave = os.openpty()
    name = os.ttyname(slave)
    os.close(slave)
    terminal = Terminal(master, name)
    yield terminal
    terminal.close()


async def test_a_terminal_that_closes_stops_it_politely(arguments: list[str], terminal: Terminal) -> None:
    async with open_command(*arguments, program=terminal.program) as run:
        await run.until_printed("works")
        terminal.close()
        assert await run.wait() == 0
    assert any("stopped politely" in line for line in run.output)


async def test_where_there_is_a_terminal_sighup_stops_it_however_often_it_comes(
    arguments: list[str], terminal: Terminal
) -> None:
    """A terminal that closes sends two, one of them by the shell, while the terminal may still be there."""
    async with open_command(*arguments, program=terminal.program) as run:
        await run.until_printed("works")
        run.signal(signal.SIGHUP)
        run.signal(signal.SIGHUP)
        assert await run.wait() == 0
    assert any("stopped politely" in line for line in run.output)


async def test_without_a_terminal_sighup_reads_the_configuration_again(arguments: list[str]) -> None:
    async with open_command(*arguments, program=prepared("import os; os.setsid()")) as run:
        await run.until_printed("works")
        run.signal(signal.SIGHUP)
        await run.until_event("sighup", "reading the configuration again")
        await run.until_event("reload-done", "nothing has changed")
        run.signal(signal.SIGTERM)
        run.signal(signal.SIGHUP)  # as systemd does with SendSIGHUP=; it does not force it
        assert await run.wait() == 0
    assert any("stopped politely" in line for line in run.output)


async def test_under_nohup_it_goes_on(arguments: list[str]) -> None:
    async with open_command(*arguments, program=prepared("signal.signal(signal.SIGHUP, signal.SIG_IGN)")) as run:
        await run.until_printed("works")
        run.signal(signal.SIGHUP)
        await trio.sleep(0.3)  # nothing is to happen
        assert run.process.returncode is None
        assert not run.events("stopping")
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
