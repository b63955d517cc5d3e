"""The operator's commands on a deployment that speaks Zenoh: each says of it what it says of any other."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from mcap.reader import make_reader

from taktora_trio.testing.zenoh.router import ZenohRouter
from taktora_trio.transport.domain import Domain
from tests.command import Command, open_command, run_command
from tests.deployment.test_endpoint import address_of, until
from tests.endpoint.asking import ask
from tests.patience import PATIENCE
from tests.zenoh.outsider import Outsider, open_outsider

pytestmark = pytest.mark.zenoh
TARGET = "tests.zenoh.operated_apps:deployment"


@contextlib.asynccontextmanager
async def open_obeying(router: ZenohRouter, domain: Domain, *more: str) -> AsyncIterator[tuple[Command, Outsider]]:
    """Run the app in two processes, connected."""
    options = ("--mode", "split", "--domain", domain.name, "--connect", router.endpoint, *more)
    async with open_outsider(router.endpoint) as outsider, open_command("run", TARGET, *options) as run:
        await run.until_event("health-up")
        yield run, outsider
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


async def obeyed(outsider: Outsider, *numbers: int) -> None:
    """Give orders until each is done: nobody keeps one that comes while the app is not there."""
    done = outsider.subscribe("test/done")
    with trio.fail_after(PATIENCE):
        for number in numbers:
            while True:
                await outsider.put("test/orders", b'{"number":%d}' % number)
                with trio.move_on_after(0.5):
                    while json.loads((await done.receive())[1]) != {"number": number}:
                        pass
                    break


async def said(*arguments: str, code: int = 0) -> str:
    """Run a command to its end, and return what it says."""
    got, output, errors = await run_command(*arguments)
    assert got == code, errors
    return f"{output}\n{errors}"


async def test_what_runs_is_shown(router: ZenohRouter, domain: Domain) -> None:
    of_it = ("--domain", domain.name)
    async with open_obeying(router, domain, "--endpoint", "127.0.0.1:0") as (run, outsider):
        address = await address_of(run)
        await obeyed(outsider, *range(5))

        async def commands() -> None:
            status = json.loads(await said("status", *of_it, "--json"))
            connector, channels = status["connectors"]["zenoh"], {one["name"]: one for one in status["channels"]}
            assert (connector["health"], connector["peer"]) == ("Up", router.endpoint)
            assert {name: (one["address"], one["done"]) for name, one in channels.items()} == {
                "orders": ("test/orders", 5),
                "done": ("test/done", 5),
            }
            assert channels["done"]["acknowledged"] == 5, "the library has them"
            assert status["halves"]["gateway"]["memory"] > status["halves"]["plugin"]["memory"]
            assert router.endpoint in await said("status", *of_it)
            assert re.search(rf"obeying +split +runs {run.half('plugin')}", await said("ps"))
            assert "zenoh     Up" in await said("top", *of_it, "--frames", "1")
            assert "connector zenoh: Up" in await said("healthcheck", *of_it, "--ready")
            assert "connected to" in await said("logs", *of_it)

        async def endpoint() -> None:
            metrics = (await ask(address, "/metrics")).text
            assert (
                f'taktora_connector_info{{connector="zenoh",domain="{domain.name}",peer="{router.endpoint}"}}'
                in metrics
            )
            await until(address, "/readyz", "readyz passed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(commands)
            nursery.start_soon(endpoint)
        await router.stop(signal.SIGKILL)
        await until(address, "/readyz", "zenoh: Connecting")
        assert "zenoh: Connecting" in await said("healthcheck", *of_it, "--ready", code=1)
        await said("healthcheck", *of_it)  # a restart would not bring the router back
        await router.start()
        assert "zenoh" in await said("revive", *of_it)
        await run.until_event("health-up", count=2)


async def test_what_passes_is_followed_measured_recorded_and_replayed(
    router: ZenohRouter, domain: Domain, tmp_path: Path
) -> None:
    of_it, file = ("--domain", domain.name), tmp_path / "r.mcap"
    async with (
        open_obeying(router, domain) as (_, outsider),
        open_command("record", TARGET, *of_it, "--output", str(file), json_log=False) as record,
        open_command("echo", TARGET, *of_it, "--count", "6", "--json", json_log=False) as echo,
        open_command("hz", TARGET, *of_it, "--for", "2", json_log=False) as hz,
        trio.open_nursery() as nursery,
    ):
        with trio.fail_after(PATIENCE):
            while not file.exists():  # noqa: ASYNC110 - another process makes it
                await trio.sleep(0.01)

        async def work() -> None:
            for number in itertools.count():
                await obeyed(outsider, number)

        nursery.start_soon(work)
        assert await echo.wait() == 0
        assert await hz.wait() == 0
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            record.signal(signal.SIGINT)
            assert await record.wait() == 0
    passed = [json.loads(line) for line in echo.output]
    assert {(one["channel"], one["topic"]) for one in passed} == {("orders", "test/orders"), ("done", "test/done")}
    assert any("orders" in line for line in hz.output)
    with file.open("rb") as recorded:
        topics = {channel.topic for _, channel, _ in make_reader(recorded).iter_messages()}
    assert topics == {"zenoh/in/orders", "zenoh/out/done"}
    # In memory, and as a real run at the router that is there.
    for more in ((), ("--shape", "in-process", "--peer", router.endpoint)):
        assert re.search(r"zenoh.done: (\d+) of \1 as recorded", await said("replay", str(file), TARGET, *more)), more


async def test_it_is_described_planned_and_examined(router: ZenohRouter, domain: Domain) -> None:
    of_it = ("--domain", domain.name, "--connect", router.endpoint)
    assert "taktora.connector.zenoh.orders.in" in await said("plan", TARGET)
    assert "test/orders" in await said("channels", TARGET)
    document = json.loads(await said("asyncapi", TARGET, "--format", "json", "--server", router.endpoint))
    assert {one["address"] for one in document["channels"].values()} == {"test/orders", "test/done"}
    async with open_obeying(router, domain):
        assert "fail" not in await said("doctor", TARGET, *of_it)
    await router.stop(signal.SIGKILL)
    assert "fail" in await said("doctor", TARGET, *of_it, code=1)


async def test_it_is_stopped_started_restarted_reloaded_and_revived(
    router: ZenohRouter, domain: Domain, tmp_path: Path
) -> None:
    of_it, config = ("--domain", domain.name), tmp_path / "taktora.toml"
    config.write_text(f'[connector.zenoh]\nconnect = ["{router.endpoint}"]\n')
    options = ("--mode", "split", *of_it, "--config", str(config))
    async with open_outsider(router.endpoint) as outsider, open_command("run", TARGET, *options) as run:
        await run.until_event("health-up")
        plugin = run.half("plugin")
        await said("stop", *of_it, "--half", "gateway")
        await run.until_event("health-down")
        await said("start", *of_it, "--half", "gateway")
        await run.until_event("health-up", count=2)
        await said("restart", *of_it, "--half", "gateway")
        await run.until_event("health-up", count=3)
        await obeyed(outsider, 1)
        config.write_text(f'[connector.zenoh]\nconnect = ["{router.endpoint}"]\nlease = 3.5\n')
        assert "connector.zenoh.lease" in await said("reload", *of_it)
        await obeyed(outsider, 2)
        await said("log-level", "debug", *of_it)
        assert run.half("plugin") == plugin, "the app went on"
        await said("stop", *of_it)
        assert await run.wait() == 0
