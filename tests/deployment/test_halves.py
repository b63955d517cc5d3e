"""Each half alone, for operators whose supervisor is systemd or Kubernetes: in either order, each one replaceable."""

from __future__ import annotations

import contextlib
import signal

import pytest

from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import Command, open_command
from tests.mosquitto import Mosquitto

ECHO = "examples.echo:deployment"


def open_half(half: str, broker: Mosquitto, domain: Domain) -> contextlib.AbstractAsyncContextManager[Command]:
    return open_command(half, ECHO, "--broker", broker.url, "--domain", domain.name)


async def check_echo(broker: Mosquitto, payload: bytes) -> None:
    async with open_client(broker.port, "taktora/echo/reply") as client:
        client.publish("taktora/echo/request/me", payload)
        while (await client.receive()).payload != payload:
            pass  # an earlier one again, if a half was killed before it knew that the broker had it


@pytest.mark.parametrize("first", ["plugin", "gateway"])
async def test_in_either_order(first: str, broker: Mosquitto, domain: Domain) -> None:
    second = {"plugin": "gateway", "gateway": "plugin"}[first]
    async with open_half(first, broker, domain) as one:
        await one.until_logged("waiting for its", second, f"taktora-trio {second}")
        async with open_half(second, broker, domain) as other:
            plugin, gateway = (one, other) if first == "plugin" else (other, one)
            await plugin.until_logged("-> Up")
            await check_echo(broker, b"hello")
            plugin.signal(signal.SIGTERM)
            assert await plugin.wait(5) == 0
            gateway.signal(signal.SIGTERM)
            assert await gateway.wait(5) == 0


async def test_a_plugin_is_replaced_while_the_gateway_stays(broker: Mosquitto, domain: Domain) -> None:
    async with open_half("gateway", broker, domain) as gateway:
        for signum in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
            async with open_half("plugin", broker, domain) as plugin:
                await plugin.until_logged("-> Up")
                await check_echo(broker, signum.name.encode())
                plugin.signal(signum)
                assert await plugin.wait(5) == (0 if signum == signal.SIGTERM else -signum)
        assert gateway.process.returncode is None
        gateway.signal(signal.SIGTERM)
        assert await gateway.wait(5) == 0


async def test_a_gateway_is_replaced_while_the_plugin_stays(broker: Mosquitto, domain: Domain) -> None:
    async with open_half("plugin", broker, domain) as plugin:
        for number, signum in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL), 1):
            async with open_half("gateway", broker, domain) as gateway:
                await plugin.until_logged("-> Up", count=number)
                await check_echo(broker, signum.name.encode())
                gateway.signal(signum)
                assert await gateway.wait(5) == (0 if signum == signal.SIGTERM else -signum)
                await plugin.until_logged("-> Down", count=number)
        plugin.signal(signal.SIGINT)
        assert await plugin.wait(5) == 0


async def test_a_waiting_gateway_stops_politely(broker: Mosquitto, domain: Domain) -> None:
    async with open_half("gateway", broker, domain) as gateway:
        await gateway.until_logged("waiting for its plugin")
        gateway.signal(signal.SIGTERM)
        assert await gateway.wait(5) == 0


@pytest.mark.parametrize("half", ["plugin", "gateway"])
async def test_a_second_one_is_refused(half: str, broker: Mosquitto, domain: Domain) -> None:
    async with open_half("plugin", broker, domain) as plugin, open_half("gateway", broker, domain) as gateway:
        await plugin.until_logged("-> Up")
        async with open_half(half, broker, domain) as second:
            assert await second.wait(10) == 2
        [line] = second.stderr
        assert "already has" in line
        assert "--domain" in line
        await check_echo(broker, b"unharmed")
        for running in (plugin, gateway):
            running.signal(signal.SIGTERM)
            assert await running.wait(5) == 0
