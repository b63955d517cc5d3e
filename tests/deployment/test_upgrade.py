"""New code for either half while the other one runs, or for both: at QoS 1 and 2 nothing is lost, both ways."""

from __future__ import annotations

import signal
from pathlib import Path

import attrs
import pytest

from taktora_trio.transport.domain import Domain
from tests.deployment.upgrade import COMPATIBLE, open_upgrade
from tests.mosquitto import Mosquitto


async def test_each_half_of_two_units_is_replaced_while_the_other_one_runs(
    broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    async with open_upgrade(tmp_path, broker, domain) as upgrade:
        plugin, gateway = await upgrade.start("plugin"), await upgrade.start("gateway")
        await gateway.until_logged("mqtt: connected to")
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
async def test_the_gateway_of_a_run_is_replaced(
    warm: tuple[str, ...], broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    async with open_upgrade(tmp_path, broker, domain) as upgrade:
        run = await upgrade.start("run", "--mode", "split", *warm)
        await run.until_logged("-> Up")
        upgrade.place_orders()
        await upgrade.until_served_by(1)
        upgrade.install(attrs.evolve(COMPATIBLE, says="the new gateway"))
        run.signal(signal.SIGTERM, run.half("gateway"))
        await run.until_logged("-> Up", count=2)
        assert any("the new gateway" in line for line in run.stderr)
        await upgrade.until_served_by(1)
        upgrade.silence()
        await upgrade.until_all_heard()
        await upgrade.stop(run)
        upgrade.check()
