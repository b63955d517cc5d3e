"""New code for either half while the other one runs, or for both: at QoS 1 and 2 nothing is lost, both ways."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import attrs
import pytest

from taktora_trio.transport.domain import Domain
from taktora_trio.transport.spec import FORMAT
from tests.command import ROOT, run_command
from tests.deployment.upgrade import COMPATIBLE, FIRST, OTHER_WINDOW, open_upgrade
from tests.mosquitto import Mosquitto


async def test_each_half_of_two_units_is_replaced_while_the_other_one_runs(
    broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    async with open_upgrade(tmp_path, broker, domain) as upgrade:
        plugin, gateway = await upgrade.start("plugin"), await upgrade.start("gateway")
        await gateway.until_event("connected", connector="mqtt")
        upgrade.place_orders()
        await upgrade.until_served_by(1)
        upgrade.install(COMPATIBLE)

        await upgrade.stop(gateway)
        gateway = await upgrade.start("gateway")
        await upgrade.until_served_by(1)  # the app is the old one, and was not touched

        await upgrade.stop(plugin)
        plugin = await upgrade.start("plugin")
        await upgrade.until_served_by(2)

        upgrade.silence()
        await upgrade.until_all_heard()
        for half in (plugin, gateway):
            await upgrade.stop(half)
        assert [entry["event"] for entry in gateway.log].count("connected") == 1, "it stayed connected"
        upgrade.check()


@pytest.mark.chaos
@pytest.mark.parametrize("warm", [(), ("--warm",)], ids=["fresh", "warm"])
@pytest.mark.parametrize("half", ["plugin", "gateway"])
async def test_one_half_of_a_run_is_replaced_by_a_command(
    half: str, warm: tuple[str, ...], broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    async with open_upgrade(tmp_path, broker, domain) as upgrade:
        run = await upgrade.start("run", "--mode", "split", *warm)
        await run.until_event("health-up")
        upgrade.place_orders()
        await upgrade.until_served_by(1)
        pids = {name: run.half(name) for name in ("plugin", "gateway")}

        upgrade.install(OTHER_WINDOW)
        code, said = await upgrade.ask("restart", "--half", half)
        assert (code, pids) == (75, {name: run.half(name) for name in pids}), "it does not fit, so nothing is touched"
        assert said.startswith("taktora-trio: the new code does not fit the run, which goes on as it is: channel")
        await upgrade.until_served_by(1)

        upgrade.install(attrs.evolve(COMPATIBLE, says=f"new code for the {half}"))
        code, said = await upgrade.ask("restart", "--half", half)
        assert code == 0, said
        assert [name for name in pids if run.half(name) != pids[name]] == [half]
        assert any(f"new code for the {half}" in line for line in (*run.stderr, *run.output))
        await upgrade.until_served_by(2 if half == "plugin" else 1)

        upgrade.silence()
        await upgrade.until_all_heard()
        await upgrade.stop(run)
        upgrade.check()


@pytest.mark.chaos
async def test_all_of_a_run_is_replaced(broker: Mosquitto, domain: Domain, tmp_path: Path) -> None:
    async with open_upgrade(tmp_path, broker, domain) as upgrade:
        run = await upgrade.start("run", "--mode", "split")
        await run.until_event("health-up")
        upgrade.place_orders()
        for old, new in ((FIRST, COMPATIBLE), (COMPATIBLE, OTHER_WINDOW)):
            await upgrade.until_served_by(old.number)
            upgrade.install(new)
            await upgrade.stop(run)
            run = await upgrade.start("run", "--mode", "split")
            await upgrade.until_served_by(new.number)
        upgrade.silence()
        await upgrade.until_all_heard()
        await upgrade.stop(run)
        upgrade.check()


@pytest.mark.chaos
@pytest.mark.parametrize("half", ["plugin", "gateway"])
async def test_a_half_that_is_not_compatible_says_what_to_do_and_the_run_loses_nothing(
    half: str, broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    async with open_upgrade(tmp_path, broker, domain) as upgrade:
        run = await upgrade.start("run", "--mode", "split", f"--{half}-policy", "intensity=1")
        await run.until_event("health-up")
        upgrade.place_orders()
        await upgrade.until_served_by(1)
        upgrade.install(OTHER_WINDOW)
        run.signal(signal.SIGTERM if half == "gateway" else signal.SIGKILL, run.half(half))
        await run.until_logged("this half has window 128, the domain has window 64", "stop the run and start it")
        await run.until_logged(f"{half}: given up (exit code 75)")
        if half == "gateway":
            # The app goes on, and what it sends waits for a gateway: let one that fits publish it before the stop.
            upgrade.install(FIRST)
            code, output, errors = await run_command("revive", "--domain", domain.name)
            assert code == 0, output + errors
            await upgrade.until_served_by(1)
            upgrade.install(OTHER_WINDOW)
            await upgrade.stop(run)
        else:
            assert await run.wait() == 75, "so that systemd starts the run again, and with it the new code of both"
        run = await upgrade.start("run", "--mode", "split")
        await upgrade.until_served_by(3)
        upgrade.silence()
        await upgrade.until_all_heard()
        await upgrade.stop(run)
        upgrade.check()


@pytest.mark.chaos
async def test_a_half_of_another_version_of_the_package_is_refused(
    broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(ROOT / "taktora_trio", other / "taktora_trio", ignore=shutil.ignore_patterns("__pycache__"))
    spec = other / "taktora_trio" / "transport" / "spec.py"
    spec.write_text(spec.read_text().replace(f"\nFORMAT = {FORMAT}\n", f"\nFORMAT = {FORMAT + 1}\n"))
    async with open_upgrade(tmp_path, broker, domain) as upgrade:
        plugin, gateway = await upgrade.start("plugin"), await upgrade.start("gateway")
        await gateway.until_event("connected", connector="mqtt")
        upgrade.place_orders()
        await upgrade.until_served_by(1)
        for name, half in (("gateway", gateway), ("plugin", plugin)):
            await upgrade.stop(half)
            refused = await upgrade.start(name, env={"PYTHONPATH": str(other)})
            assert await refused.wait() == 75
            [line] = refused.stderr
            assert f"format {FORMAT + 1} of what lies in shared memory, the domain has format {FORMAT}" in line
            assert "start both from the same installation" in line
            await upgrade.start(name)  # the old version is back, and nothing was lost
            await upgrade.until_served_by(1)
        upgrade.silence()
        await upgrade.until_all_heard()
        for half in upgrade.commands[::-1]:
            if half.process.returncode is None:
                await upgrade.stop(half)
        upgrade.check()
