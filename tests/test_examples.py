"""The examples run as they are: in both shapes, on the embedded broker, and the demo to its summary."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
import uuid
from array import array
from functools import partial

import pytest
import trio

from examples.analysis import PERIOD, SAMPLES, strongest
from examples.fleet import INSPECTORS, MACHINES
from examples.vibration import levels_of
from taktora_trio.processes.lines import read_lines
from taktora_trio.transport.domain import Domain
from tests.command import MODES, ROOT, open_command, open_run
from tests.mosquitto import Mosquitto
from tests.patience import PATIENCE


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


@pytest.mark.parametrize("mode", MODES)
async def test_the_vibration_monitor_sees_a_bearing_wear_out(mode: str, domain: Domain) -> None:
    arguments = ("--mode", mode, "--broker", "embedded", "--domain", domain.name)
    async with open_command("run", "examples.vibration:deployment", *arguments) as run:
        await run.until_printed("worn: replace the bearing")
        run.signal(signal.SIGTERM)
        assert await run.wait(10) == 0
    said = [line.rpartition(": ")[2] for line in run.output if "crest factor" in line]
    assert said == sorted(said, key=len)  # good first, then worn
    assert "Traceback" not in "".join(run.stderr)


def test_effective_value_and_peak_of_a_block() -> None:
    effective, peak = levels_of(memoryview(array("f", [3.0, -4.0, 0.0, 0.0]).tobytes()))
    assert effective == pytest.approx(2.5)
    assert peak == 4.0


async def test_the_fleet_divides_its_work(broker: Mosquitto, domain: Domain) -> None:
    command = [sys.executable, "-m", "examples.fleet", broker.url, "--prefix", domain.name]
    lines: list[str] = []
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            run = partial(trio.run_process, command, cwd=ROOT, stdout=subprocess.PIPE, capture_stderr=True)
            process = await nursery.start(run)
            async for line in read_lines(process.stdout):
                lines.append(line.decode())
                if "of 20 machines" in lines[-1]:
                    process.send_signal(signal.SIGINT)
    assert "20 machines and 3 inspectors are at work" in lines
    shares = {who: int(count) for count, who in re.findall(r"(\d+) by ([\w-]+)", lines[-1])}
    assert set(shares) == set(INSPECTORS)
    assert max(shares.values()) - min(shares.values()) < sum(shares.values()) / 2
    for name in ("office", *INSPECTORS, *MACHINES):
        one = Domain(f"{domain.name}-{name}")
        assert one.files() == []
        one.forget()


@pytest.mark.parametrize("mode", MODES)
async def test_a_service_and_its_client(mode: str, broker: Mosquitto, domain: Domain) -> None:
    client = Domain(f"test-{uuid.uuid4().hex[:12]}")
    async with (
        open_run("examples.ask:service", mode, broker, domain) as service,
        open_run("examples.ask:client", mode, broker, client) as run,
    ):
        await run.until_printed("100 / 4 = 25")
        await run.until_printed("100 / 0: nothing can be divided by 0")
        for each in (run, service):
            each.signal(signal.SIGTERM)
            assert await each.wait(10) == 0
    assert "Traceback" not in "".join(run.stderr + service.stderr)


@pytest.mark.parametrize("mode", MODES)
async def test_commands_are_answered_twice(mode: str, broker: Mosquitto, domain: Domain) -> None:
    async with open_run("examples.commands:deployment", mode, broker, domain) as run:
        assert await run.wait() == 0
    printed = "\n".join(run.output)
    expected = [
        *("to 70 mm: accepted at 0 mm", "to 70 mm: completed at 70 mm"),
        *("to 20 mm: accepted at 70 mm", "to 20 mm: completed at 20 mm"),
        "to 120 mm: 120 mm is beyond the ends of the axis",
    ]
    assert re.findall(r"to \d+ mm: [\w ]+", printed) == expected
    assert "Traceback" not in "".join(run.stderr)


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
