"""Fences of a run: each half gets its own where it starts, and so does the next one; what makes no sense is refused."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from examples.echo import deployment
from taktora_trio import ConfigError, open_deployment
from taktora_trio.processes.parent.memory_controller import memory_controller
from taktora_trio.transport.domain import Domain
from tests.command import Command, open_run, run_command
from tests.mosquitto import Mosquitto

TARGET = "examples.echo:deployment"
CPU = max(os.sched_getaffinity(0))


def _limit_of_data(pid: int) -> str:
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[3] for line in limits if line.startswith("Max data size"))


def _group(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next((line for line in lines if "memory" in line.split(":")[1]), lines[-1])


def _check_gateway(run: Command, domain: Domain) -> None:
    gateway = run.half("gateway")
    assert os.sched_getaffinity(gateway) == {CPU}
    assert os.getpriority(os.PRIO_PROCESS, gateway) == 11
    if _limit_of_data(gateway) != "300000000":
        assert _group(gateway) == f"{_group(run.pid).removesuffix('/')}/taktora-{domain.name}-gateway"


@pytest.mark.parametrize("warm", [(), pytest.param(("--warm",), marks=pytest.mark.chaos)], ids=["fresh", "warm"])
async def test_each_half_has_its_fence_and_so_has_the_next_gateway(
    warm: tuple[str, ...], broker: Mosquitto, domain: Domain
) -> None:
    fences = ("--fence.plugin.nice", "3", "--fence.gateway.memory=300_000_000")
    more = {"TAKTORA_FENCE_GATEWAY_CPUS": str(CPU), "TAKTORA_FENCE_GATEWAY_NICE": "11"}
    async with open_run(TARGET, "split", broker, domain, *fences, *warm, env=more) as run:
        await run.until_event("health-up")
        assert os.getpriority(os.PRIO_PROCESS, run.half("plugin")) == 3
        assert os.sched_getaffinity(run.half("plugin")) == os.sched_getaffinity(0)
        assert os.getpriority(os.PRIO_PROCESS, run.pid) == 0
        _check_gateway(run, domain)
        run.signal(signal.SIGKILL, run.half("gateway"))
        await run.until_logged("killed by SIGKILL")
        await run.until_event("health-up", count=2)
        _check_gateway(run, domain)
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
    controller = memory_controller()
    assert controller is None or not (controller.folder / f"taktora-{domain.name}-gateway").exists()


@pytest.mark.chaos
async def test_in_one_process_all_of_it_is_fenced(broker: Mosquitto, domain: Domain) -> None:
    fences = ("--fence.plugin.nice=3", f"--fence.plugin.cpus={CPU}")
    async with open_run(TARGET, "in-process", broker, domain, *fences) as run:
        await run.until_event("health-up")
        assert (os.getpriority(os.PRIO_PROCESS, run.pid), os.sched_getaffinity(run.pid)) == (3, {CPU})
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


@pytest.mark.parametrize(
    ("mode", "option", "said"),
    [
        ("in-process", "--fence.gateway.nice=3", "--fence.gateway.nice: in one process the gateway shares"),
        ("split", "--fence.gateway.cpus=4095", "fence.gateway.cpus is 4095: this machine has"),
    ],
)
async def test_a_fence_that_makes_no_sense_is_one_line(mode: str, option: str, said: str) -> None:
    code, output, errors = await run_command("run", TARGET, "--mode", mode, "--broker", "embedded", option)
    assert (code, output) == (2, "")
    [line] = errors.splitlines()
    assert line.startswith(f"taktora-trio: {said}")


@pytest.mark.parametrize(
    ("mode", "key", "said"),
    [
        ("in-process", "fence.plugin.nice", "the program is the app here: fence it where it is started"),
        ("split", "fence.plugin.nice", "the program is the app here"),
        ("in-process", "fence.gateway.nice", 'the gateway is a task of the program: use mode="split"'),
    ],
)
async def test_a_library_call_changes_nothing_about_its_program(mode: str, key: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^--{key}: {said}"):
        async with open_deployment(deployment, mode=mode, settings={key: 3}):  # type: ignore[arg-type]
            pass
