"""What is told of a run from outside of it: when it is ready, how it fares, and whether it lives."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio

from taktora_trio import ConfigError
from taktora_trio.operate.liveness import NotAlive, check_alive
from taktora_trio.runners.options import Half
from taktora_trio.transport.domain import Domain
from tests.command import MODES, open_command, open_run, run_command
from tests.mosquitto import Mosquitto

ECHO = "examples.echo:deployment"


@attrs.define
class Systemd:
    """The socket that systemd would give to a service, and what came there."""

    environment: dict[str, str]
    told: list[str] = attrs.field(factory=list)
    _news: trio.Event = attrs.field(factory=trio.Event)

    async def read(self, sock: trio.socket.SocketType) -> None:
        while True:
            self.told += (await sock.recv(4096)).decode().splitlines()
            self._news.set()
            self._news = trio.Event()

    async def until(self, line: str, count: int = 1) -> None:
        with trio.fail_after(20):
            while self.told.count(line) < count:
                await self._news.wait()


@contextlib.asynccontextmanager
async def open_systemd(folder: Path, watchdog: str = "400000") -> AsyncIterator[Systemd]:
    path = str(folder / "notify")
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        await sock.bind(path)
        async with trio.open_nursery() as nursery:
            systemd = Systemd({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": watchdog})
            nursery.start_soon(systemd.read, sock)
            yield systemd
            nursery.cancel_scope.cancel()


async def until_awaited(domain: Domain) -> None:
    with trio.fail_after(20):
        while not domain.is_awaited():  # noqa: ASYNC110 - nobody announces that
            await trio.sleep(0.01)


@pytest.mark.parametrize("mode", MODES)
async def test_a_run_is_ready_once_the_domain_is_its_own(
    mode: str, broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    async with open_systemd(tmp_path) as systemd:
        with domain.hold("owner"):
            async with open_run(ECHO, mode, broker, domain, env=systemd.environment) as refused:
                assert await refused.wait() == os.EX_TEMPFAIL
        assert systemd.told == []
        async with open_run(ECHO, mode, broker, domain, env=systemd.environment) as run:
            await systemd.until("READY=1")
            assert domain.holder("owner") == run.pid
            await systemd.until("STATUS=the app runs; mqtt: Up")
            await broker.stop()
            await systemd.until("STATUS=the app runs; mqtt: Connecting")
            await systemd.until("WATCHDOG=1", 3)
            run.signal(signal.SIGTERM)
            assert await run.wait() == 0
        await systemd.until("STOPPING=1")


async def test_a_gateway_alone_is_ready_while_it_waits_and_says_what_the_broker_does(
    broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    async with open_systemd(tmp_path) as systemd:
        arguments = ("gateway", ECHO, "--domain", domain.name, "--broker", broker.url)
        async with open_command(*arguments, env=systemd.environment) as gateway:
            await systemd.until("READY=1")
            assert systemd.told[:2] == ["READY=1", "STATUS=waiting for its plugin"]
            await systemd.until("WATCHDOG=1", 6)  # for longer than a period
            async with open_command("plugin", ECHO, "--domain", domain.name) as plugin:
                await systemd.until("STATUS=mqtt: Up")
                await broker.stop()
                await systemd.until("STATUS=mqtt: Connecting")
                gateway.signal(signal.SIGTERM)
                assert await gateway.wait() == 0
                plugin.signal(signal.SIGTERM)
                assert await plugin.wait() == 0
        assert systemd.told.index("STATUS=mqtt: Up") < systemd.told.index("STOPPING=1")


async def test_whether_a_half_lives_is_seen_from_outside(broker: Mosquitto, domain: Domain) -> None:
    async def look(half: Half | None = None, max_age: float = 10.0) -> str:
        return "\n".join(await trio.to_thread.run_sync(check_alive, domain, half, max_age))

    with pytest.raises(NotAlive, match="has no gateway now"):
        await look("gateway")
    async with open_command("gateway", ECHO, "--domain", domain.name, "--broker", broker.url) as gateway:
        await until_awaited(domain)
        assert await look("gateway") == "the gateway waits for its plugin"
        async with open_command("plugin", ECHO, "--domain", domain.name) as plugin:
            await plugin.until_event("health-up")
            code, output, _ = await run_command("healthcheck", "--domain", domain.name)
            assert code == 0
            assert [line.split(":")[0] for line in output.splitlines()] == [
                f"the {role} lives (pid {half.pid})"
                for role, half in (("owner", plugin), ("plugin", plugin), ("gateway", gateway))
            ]
            gateway.signal(signal.SIGSTOP)
            command = ("healthcheck", "--domain", domain.name, "--half", "gateway", "--max-age", "0.1")
            code, output, errors = await run_command(*command)
            assert (code, output) == (1, "")
            told = (
                f"taktora-trio: domain '{domain.name}': the gateway (pid {gateway.pid}) hangs, or is stopped: no sign"
            )
            assert errors.startswith(told)
            assert "the plugin lives" in await look("plugin")
            gateway.signal(signal.SIGCONT)
            assert "the gateway lives" in await look("gateway", 0.1)  # its next sign is waited for
            for half in (plugin, gateway):
                half.signal(signal.SIGTERM)
                assert await half.wait() == 0


async def test_a_gateway_that_does_not_see_its_plugin_come_is_not_alive(broker: Mosquitto, domain: Domain) -> None:
    async with open_command("gateway", ECHO, "--domain", domain.name, "--broker", broker.url) as gateway:
        await until_awaited(domain)
        gateway.signal(signal.SIGSTOP)
        with domain.hold("owner"):
            domain.announce_ready()
            with pytest.raises(NotAlive, match="for which its plugin is there, hangs"):
                await trio.to_thread.run_sync(check_alive, domain, "gateway", 10.0)
        gateway.signal(signal.SIGCONT)
        gateway.signal(signal.SIGTERM)
        assert await gateway.wait() == 0


@pytest.mark.parametrize("max_age", [0, -1, float("nan")])
def test_an_age_that_cannot_be_is_refused(max_age: float, domain: Domain) -> None:
    with pytest.raises(ConfigError, match="more than 0 seconds"):
        check_alive(domain, None, max_age)
