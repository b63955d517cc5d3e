"""The examples run as they are: in both shapes, on the embedded broker, and the demo to its summary."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trio

from taktora_trio.transport.domain import Domain
from tests.command import MODES, ROOT, open_command


@pytest.mark.parametrize("mode", MODES)
async def test_the_thermostat_on_the_embedded_broker(mode: str, domain: Domain) -> None:
    async with open_command(
        *("run", "examples.thermostat:deployment", "--mode", mode, "--broker", "embedded"),
        *("--domain", domain.name, "--for", "6"),
    ) as run:
        await run.until_printed("health: Connecting -> Up")
        await run.until_printed("new setpoint from plant/hall/setpoint: 21.0 °C")
        assert await run.wait(15) == 0
        assert "ticks" in await run.until_printed("control loop:")
        assert len(run.output) > 6


@pytest.mark.parametrize("script", ["supervisors/in_process.py", "supervisors/split.py"])
async def test_the_runner_scripts(script: str, domain: Domain) -> None:
    arguments = ["examples.echo:deployment", "--broker", "embedded", "--domain", domain.name, "--for", "2"]
    with trio.fail_after(20):
        done = await trio.run_process(
            [sys.executable, script, *arguments], cwd=ROOT, capture_stderr=True, stdin=subprocess.DEVNULL
        )
    assert b"-> Up" in done.stderr
    assert b"Traceback" not in done.stderr


async def test_the_demo() -> None:
    with trio.fail_after(60):
        done = await trio.run_process([sys.executable, "-m", "examples.demo"], cwd=ROOT, capture_stdout=True)
    output = done.stdout.decode()
    assert "kill -9" in output
    summary = output.strip().splitlines()[-1]
    assert "Up again after" in summary
    assert "exit code 0" in summary
