"""The router that a run, or a reader, starts for trying things out."""

from __future__ import annotations

import signal

import psutil
import pytest
import trio
import zenoh

from taktora_trio.connectors.zenoh.embedded import open_embedded_router
from taktora_trio.transport.domain import Domain
from tests.command import MODES, open_command
from tests.mosquitto import free_port

pytestmark = pytest.mark.zenoh
PROGRAM = ("-m", "taktora_trio.connectors.zenoh.embedded")


def client(endpoint: str) -> zenoh.Session:
    config = zenoh.Config()
    config.insert_json5("mode", '"client"')
    config.insert_json5("connect/endpoints", f'["{endpoint}"]')
    config.insert_json5("transport/shared_memory/enabled", "false")
    return zenoh.open(config)


async def test_it_routes_between_clients_and_ends_with_its_block() -> None:
    here = psutil.Process()
    async with open_embedded_router() as endpoint:
        assert len(here.children()) == 1
        came, token = trio.Event(), trio.lowlevel.current_trio_token()
        with client(endpoint) as one, client(endpoint) as other:
            one.declare_subscriber("test/embedded", lambda _: token.run_sync_soon(came.set))
            with trio.fail_after(10):
                while not came.is_set():  # until the router knows of the subscriber
                    await trio.to_thread.run_sync(other.put, "test/embedded", b"x")
                    await trio.lowlevel.checkpoint()
    assert here.children() == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
async def test_by_one_command_it_runs_until_a_signal(signum: signal.Signals) -> None:
    port = free_port()
    async with open_command(str(port), program=PROGRAM, json_log=False) as router:
        await router.until_printed(f"a Zenoh router listens at tcp/127.0.0.1:{port}: --connect tcp/127.0.0.1:{port}")
        client(f"tcp/127.0.0.1:{port}").close()
        router.signal(signum)
        assert await router.wait() == 0


async def test_where_it_can_t_listen_it_is_one_line() -> None:
    async with open_command("nonsense/127.0.0.1:1", program=PROGRAM, json_log=False) as router:
        assert await router.wait() == 1
    assert router.stderr == ["no router at nonsense/127.0.0.1:1: Unicast not supported for nonsense protocol"]


async def test_without_the_library_it_is_one_line() -> None:
    hidden = f"""
import importlib.abc, importlib.machinery, runpy, sys

class Hides(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "zenoh" else super().find_spec(name, path, target)

sys.meta_path = [one for one in sys.meta_path if one is not importlib.machinery.PathFinder] + [Hides]
runpy.run_module({PROGRAM[1]!r}, run_name="__main__")
"""
    async with open_command(program=("-c", hidden), json_log=False) as router:
        assert await router.wait() == 1
    assert router.stderr == ["no router: it needs eclipse-zenoh: pip install 'taktora-trio[zenoh]'"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_run_brings_one_along(mode: str, domain: Domain) -> None:
    options = ("--mode", mode, "--domain", domain.name, "--connect", "embedded")
    async with open_command("run", "tests.zenoh.operated_apps:deployment", *options) as run:
        connected = await run.until_event("connected")
        endpoint = connected["message"].rpartition(" ")[2]
        client(endpoint).close()
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
    with pytest.raises(zenoh.ZError):
        client(endpoint)
