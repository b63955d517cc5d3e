"""Each half alone, for operators whose supervisor is systemd or Kubernetes: in either order, each one replaceable."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest
import trio

from taktora_trio import ConnectorHost, Deployment, Inbound, MqttConnector, MqttRouting, Outbound, RawCodec
from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import Command, open_command
from tests.mosquitto import Mosquitto

ECHO = "examples.echo:deployment"
OUT = Outbound("out", bytes, MqttRouting("test/out"))
IN = Inbound("in", bytes, MqttRouting("test/in"))
# Stops as if by Ctrl-Z, at the n-th time that it has opened something and nobody else may.
STOPS = """
import os, runpy, signal
from taktora_trio.transport.pages import Pages
take, left = Pages.take, [{count}]
def take_or_stop(pages):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    take(pages)
Pages.take = take_or_stop
runpy.run_module("taktora_trio", run_name="__main__")
"""


async def attach(host: ConnectorHost) -> None:
    async with host.open_writer(OUT), host.open_reader(IN):
        print("attached", flush=True)  # noqa: T201 - the test reads it
        await trio.sleep_forever()


attaching = Deployment("attaching", attach, [MqttConnector([OUT, IN], codec=RawCodec())])


def open_half(
    half: str, broker: Mosquitto, domain: Domain, target: str = ECHO, program: tuple[str, ...] = ("-m", "taktora_trio")
) -> contextlib.AbstractAsyncContextManager[Command]:
    return open_command(half, target, "--broker", broker.url, "--domain", domain.name, program=program)


async def check_echo(broker: Mosquitto, payload: bytes) -> None:
    async with open_client(broker.port, "taktora/echo/reply") as client:
        client.publish("taktora/echo/request/me", payload)
        while (await client.receive()).payload != payload:
            pass  # an earlier one again, if a half was killed before it knew that the broker had it


@pytest.mark.parametrize("first", ["plugin", "gateway"])
async def test_in_either_order(first: str, broker: Mosquitto, domain: Domain) -> None:
    second = {"plugin": "gateway", "gateway": "plugin"}[first]
    async with open_half(first, broker, domain) as one:
        await one.until_event(f"waiting-for-{second}", f"taktora-trio {second}")
        async with open_half(second, broker, domain) as other:
            plugin, gateway = (one, other) if first == "plugin" else (other, one)
            await plugin.until_event("health-up")
            await check_echo(broker, b"hello")
            plugin.signal(signal.SIGTERM)
            assert await plugin.wait(5) == 0
            gateway.signal(signal.SIGTERM)
            assert await gateway.wait(5) == 0


async def test_a_plugin_is_replaced_while_the_gateway_stays(broker: Mosquitto, domain: Domain) -> None:
    async with open_half("gateway", broker, domain) as gateway:
        for signum in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
            async with open_half("plugin", broker, domain) as plugin:
                await plugin.until_event("health-up")
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
                await plugin.until_event("health-up", count=number)
                await check_echo(broker, signum.name.encode())
                gateway.signal(signum)
                assert await gateway.wait(5) == (0 if signum == signal.SIGTERM else -signum)
                await plugin.until_event("health-down", count=number)
        plugin.signal(signal.SIGINT)
        assert await plugin.wait(5) == 0


async def test_a_gateway_that_is_told_to_stop_may_let_its_plugin_go_first(broker: Mosquitto, domain: Domain) -> None:
    """As in a pod, where both are told at once."""
    target = (ECHO, "--broker", broker.url, "--domain", domain.name)
    async with (
        open_half("plugin", broker, domain) as plugin,
        open_command("gateway", *target, "--outlast", "60") as gateway,
    ):
        await plugin.until_event("health-up")
        gateway.signal(signal.SIGTERM)
        await gateway.until_logged(f"the plugin (pid {plugin.process.pid}) stops first")
        await check_echo(broker, b"still there")
        plugin.signal(signal.SIGTERM)
        assert await plugin.wait() == 0
        assert await gateway.wait() == 0


async def test_a_gateway_lets_its_plugin_go_first_for_a_while_only(broker: Mosquitto, domain: Domain) -> None:
    target = (ECHO, "--broker", broker.url, "--domain", domain.name)
    async with open_half("plugin", broker, domain) as plugin:
        async with open_command("gateway", *target, "--outlast", "0.1") as gateway:
            await plugin.until_event("health-up")
            gateway.signal(signal.SIGTERM)
            assert await gateway.wait() == 0
        assert plugin.process.returncode is None
        plugin.signal(signal.SIGTERM)
        assert await plugin.wait() == 0


async def test_a_waiting_gateway_stops_politely(broker: Mosquitto, domain: Domain) -> None:
    async with open_half("gateway", broker, domain) as gateway:
        await gateway.until_event("waiting-for-plugin")
        gateway.signal(signal.SIGTERM)
        assert await gateway.wait(5) == 0


async def test_a_gateway_of_one_connector_may_be_given_the_settings_of_all(broker: Mosquitto, domain: Domain) -> None:
    """So that each one's unit can have the same options."""
    brokers = ("--broker", f"north={broker.url}", "--broker", "south=mqtt://elsewhere")
    target = ("tests.deployment.apps:on_two_brokers", "--connector", "north", "--domain", domain.name)
    async with open_command("gateway", *target, *brokers) as gateway:
        await gateway.until_event("waiting-for-plugin")
        gateway.signal(signal.SIGTERM)
        assert await gateway.wait() == 0


@pytest.mark.parametrize("half", ["plugin", "gateway"])
async def test_a_second_one_is_refused(half: str, broker: Mosquitto, domain: Domain) -> None:
    async with open_half("plugin", broker, domain) as plugin, open_half("gateway", broker, domain) as gateway:
        await plugin.until_event("health-up")
        async with open_half(half, broker, domain) as second:
            assert await second.wait(10) == os.EX_TEMPFAIL
        [line] = second.stderr
        assert "already has" in line
        assert "--domain" in line
        await check_echo(broker, b"unharmed")
        for running in (plugin, gateway):
            running.signal(signal.SIGTERM)
            assert await running.wait(5) == 0


@pytest.mark.parametrize("count", [1, 3], ids=["its node", "a port"])
async def test_a_gateway_that_is_stopped_while_it_opens_keeps_no_plugin_from_opening(
    broker: Mosquitto, domain: Domain, count: int
) -> None:
    target = f"{__name__}:attaching"
    stopping = ("-c", STOPS.format(count=count))
    async with (
        open_half("plugin", broker, domain, target) as first,
        open_half("gateway", broker, domain, target, stopping) as gateway,
    ):
        await trio.to_thread.run_sync(os.waitid, os.P_PID, gateway.pid, os.WSTOPPED | os.WNOWAIT)
        first.signal(signal.SIGKILL)
        await first.wait()
        async with open_half("plugin", broker, domain, target) as plugin:
            await plugin.until_printed("attached")
            entry = await plugin.until_event("opening-beside", f"process {gateway.pid}, which stands still")
            assert entry["level"] == "warning"
            gateway.signal(signal.SIGCONT)
            await plugin.until_event("health-up")
            for half in (plugin, gateway):
                half.signal(signal.SIGTERM)
                assert await half.wait(5) == 0
