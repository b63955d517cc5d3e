"""More channels than the usual soft limit of descriptors allows: the commands raise it as far as they may."""

from __future__ import annotations

import contextlib

import pytest

from taktora_trio import ConnectorHost, Deployment, MqttConnector, MqttRouting, Outbound, Up
from taktora_trio.transport.domain import Domain
from tests.command import MODES, open_command
from tests.mosquitto import Mosquitto

CHANNELS = [Outbound(f"c{number}", int, MqttRouting(f"test/{number}"), window=1, max_payload=8) for number in range(20)]
LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, (160, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
runpy.run_module("taktora_trio", run_name="__main__")
"""


async def open_all(host: ConnectorHost) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for channel in CHANNELS:
            await stack.enter_async_context(host.open_writer(channel))
        await host.wait_for_health(Up)
        print("all open", flush=True)  # noqa: T201 - the test reads it


deployment = Deployment("many", open_all, [MqttConnector(CHANNELS)])


@pytest.mark.parametrize("mode", MODES)
async def test_the_soft_limit_is_raised_to_the_hard_one(mode: str, broker: Mosquitto, domain: Domain) -> None:
    arguments = [f"{__name__}:deployment", "--mode", mode, "--broker", broker.url, "--domain", domain.name]
    async with open_command("run", *arguments, program=("-c", LIMITED)) as run:
        await run.until_printed("all open")
        assert await run.wait() == 0
