"""Each small fault of a gateway, in a real split run: what it comes to, in the words of the log."""

from __future__ import annotations

import re
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import psutil
import pytest
import trio

from taktora_trio.chaos.faulty import FOLDER_VARIABLE, GATEWAY_FAULTS, Instructions, Moment
from taktora_trio.chaos.looking import look_until
from taktora_trio.transport.domain import Domain
from tests.command import Command, open_run
from tests.mosquitto import Mosquitto
from tests.patience import PATIENCE

pytestmark = pytest.mark.chaos

# The words of the log about each that ends the gateway.
SAID = {
    "crash-at-start": ["restarting", "(exit code 1)"],
    "crash-at-connect": ["health-down", "ChaosError: a crash on purpose"],
    "crash-in-publish": ["health-down", "a crash on purpose, with message"],
    "crash-in-cleanup": ["health-down", "ChaosError: a crash on purpose"],
    "crash-with-group": ["health-down", "ValueError: the first; OSError: [Errno 5] I/O"],
    "hang-at-start": ["health-down", "not ready within 6 s"],
    "hang-in-loop": ["health-down", "no sign of life for 1."],
    "hang-in-call": ["health-down", "no sign of life for 1."],
    "stall-in-pump": ["health-down", "no sign of life for 1."],
    "exit-early": ["restarting", "(exit code 0)"],
    "leak-grandchild": ["process-leftovers-killed"],
    "out-of-memory": ["health-down", "MemoryError"],
}

# Policies of the gateway: one for faults by which it falls silent, and one that takes no busy machine for a fault.
IMPATIENT = "start_timeout=6,watchdog=1"
PATIENT = f"start_timeout={PATIENCE:g},watchdog={PATIENCE:g}"


@pytest.fixture
def instructions(tmp_path: Path) -> Instructions:
    folder = tmp_path / "instructions"
    folder.mkdir()
    return Instructions(folder)


def test_every_fault_is_tested() -> None:
    behind_its_fence = "greedy"  # by test_chaos_run.py: without one it would take all memory of the machine
    assert {*SAID, "ignore-sigterm", "flood-stderr", behind_its_fence} == set(GATEWAY_FAULTS)


@pytest.mark.parametrize("name", SAID)
async def test_a_gateway_that_fails_is_replaced(
    name: str, broker: Mosquitto, domain: Domain, instructions: Instructions
) -> None:
    policy = IMPATIENT if name.startswith(("hang-", "stall-")) else PATIENT
    async with _run(broker, domain, instructions, policy) as run:
        await run.until_event("health-up")
        plugin, gateway = domain.holder("plugin"), domain.holder("gateway")
        moment = GATEWAY_FAULTS[name].moment
        if moment in (Moment.START, Moment.CONNECTED):  # of the next one: this one may still be at its own
            run.signal(signal.SIGSTOP, gateway)
            instructions.give(name)
            run.signal(signal.SIGKILL, gateway)
        else:
            instructions.give(name)
        if moment is Moment.CLEANUP:
            run.signal(signal.SIGTERM, gateway)
        await run.until_event(*SAID[name])
        again = 3 if GATEWAY_FAULTS[name].moment is Moment.CONNECTED else 2
        await run.until_event("health-up", connector="mqtt", count=again)
        assert domain.holder("gateway") != gateway
        assert domain.holder("plugin") == plugin
        assert not instructions.is_waiting(name)
        if (grandchild := instructions.grandchild()) is not None:
            assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


async def test_a_gateway_that_ignores_its_stop_is_killed(
    broker: Mosquitto, domain: Domain, instructions: Instructions
) -> None:
    async with _run(broker, domain, instructions) as run:
        await run.until_event("health-up")
        instructions.give("ignore-sigterm")
        await run.until_event("chaos-deaf")
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
        await run.until_event("process-stop-forced", "within 1.5 s", half="gateway")


async def test_a_gateway_that_floods_its_standard_error_goes_on(
    broker: Mosquitto, domain: Domain, instructions: Instructions
) -> None:
    async with _run(broker, domain, instructions) as run:
        await run.until_event("health-up")
        gateway = domain.holder("gateway")
        instructions.give("flood-stderr")
        with trio.fail_after(PATIENCE):  # for its last part, a line without an end, which is cut into pieces
            await look_until(lambda: sum("yyyyyyyy" in line for line in run.stderr[-20:]) >= 10)
        come = sum("xxxxxxxx" in entry["message"] for entry in run.log)
        left_out = re.findall(r"\.\.\. (\d+) lines were dropped", "\n".join(run.stderr))
        assert come + sum(map(int, left_out)) == 40_000  # what this test was too slow for was counted
        assert domain.holder("gateway") == gateway
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


async def test_nobody_takes_an_instruction_twice(instructions: Instructions) -> None:
    instructions.give("exit-early")
    assert instructions.is_waiting("exit-early")
    assert instructions.take(Moment.START) is None
    assert instructions.take(Moment.RUNNING) is GATEWAY_FAULTS["exit-early"]
    assert instructions.take(Moment.RUNNING) is None
    assert not instructions.is_waiting("exit-early")


def _run(
    broker: Mosquitto, domain: Domain, instructions: Instructions, gateway_policy: str = PATIENT
) -> AbstractAsyncContextManager[Command]:
    return open_run(
        "taktora_trio.chaos.mqtt.app:deployment",
        "split",
        broker,
        domain,
        *("--gateway-policy", gateway_policy, "--plugin-policy", PATIENT),
        env={FOLDER_VARIABLE: str(instructions.folder)},
    )
