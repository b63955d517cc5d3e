"""The examples run as they are: in both shapes, on the embedded broker, and the demo to its summary."""

from __future__ import annotations

import math
import signal
import sys

import pytest
import trio

from examples.analysis import PERIOD, SAMPLES, strongest
from taktora_trio.transport.domain import Domain
from tests.command import MODES, ROOT, open_command


@pytest.mark.parametrize("mode", MODES)
async def test_the_thermostat_on_the_embedded_broker(mode: str, domain: Domain) -> None:
    async with open_command(
        *("run", "examples.thermostat:deployment", "--mode", mode, "--broker", "embedded"),
        *("--domain", domain.name),
    ) as run:
        await run.until_printed("health: Connecting -> Up")
        await run.until_printed("new setpoint from plant/hall/setpoint: 21.0 °C")
        run.signal(signal.SIGTERM)
        assert await run.wait(10) == 0
        assert "ticks" in await run.until_printed("control loop:")


async def test_the_till(domain: Domain) -> None:
    arguments = ("--mode", "split", "--broker", "embedded", "--domain", domain.name)
    async with open_command("run", "examples.till:deployment", *arguments) as run:
        await run.until_printed("sale 2: safe, the goods are handed out")
        run.signal(signal.SIGTERM)
        assert await run.wait(10) == 0
    assert "Traceback" not in "".join(run.stderr)


@pytest.mark.parametrize("mode", MODES)
async def test_the_analysis_and_its_worker_process(mode: str, domain: Domain) -> None:
    async with open_command(
        *("run", "examples.analysis:deployment", "--mode", mode, "--broker", "embedded"),
        *("--domain", domain.name),
    ) as run:
        # Not which frequency it finds: on a busy machine samples are missed, and that is what the line tells.
        assert not (await run.until_printed(" Hz, level", 40)).startswith("0.0 Hz")
        run.signal(signal.SIGTERM)
        assert await run.wait(10) == 0
    assert "Traceback" not in "".join(run.stderr)


def test_the_analysis_finds_the_strongest_frequency() -> None:
    times = [number * PERIOD for number in range(SAMPLES)]
    assert (
        strongest([math.sin(2 * math.pi * 12.5 * t) + 0.2 * math.sin(2 * math.pi * 31.25 * t) for t in times]) == 12.5
    )


@pytest.mark.parametrize("script", ["supervisors/in_process.py", "supervisors/split.py"])
async def test_the_runner_scripts(script: str, domain: Domain) -> None:
    arguments = ("examples.echo:deployment", "--broker", "embedded", "--domain", domain.name)
    async with open_command(*arguments, program=[script]) as run:
        await run.until_logged("-> Up")
        run.signal(signal.SIGINT)
        assert await run.wait(10) == 0
    assert "Traceback" not in "".join(run.stderr)


async def test_the_demo() -> None:
    with trio.fail_after(60):
        done = await trio.run_process([sys.executable, "-m", "examples.demo"], cwd=ROOT, capture_stdout=True)
    output = done.stdout.decode()
    assert "kill -9" in output
    summary = output.strip().splitlines()[-1]
    assert "Up again after" in summary
    assert "exit code 0" in summary
