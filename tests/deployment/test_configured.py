"""A run that is configured by a file, the environment and options: each half has what is its own, and no more."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psutil
import pytest

from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import ROOT, open_command, run_command
from tests.mosquitto import Mosquitto

TARGET = "tests.deployment.configured_app:deployment"


def write(folder: Path, broker: Mosquitto, domain: Domain) -> dict[str, str]:
    """Write the file, and return the environment."""
    file = folder / "taktora.toml"
    file.write_text(
        f'domain = "{domain.name}"\n[connector.plant]\nbroker = "mqtt://me:br0ker-pw@127.0.0.1:{broker.port}"\n'
        'keepalive = 17\n[app]\nzone = "north"\nhigh = 2.5\napi_token = "app-t0ken"\n'
    )
    file.chmod(0o600)
    return {"TAKTORA_CONFIG": str(file), "TAKTORA_APP_HIGH": "3.5"}


def command_lines(processes: list[psutil.Process]) -> str:
    return " ".join(" ".join(one.cmdline()) for one in processes)


async def test_split(broker: Mosquitto, domain: Domain, tmp_path: Path) -> None:
    env = write(tmp_path, broker, domain)
    async with (
        open_client(broker.port, "configured/level") as client,
        open_command("run", TARGET, "--mode", "split", "--app.zone", "south", env=env) as run,
    ):
        assert (await client.receive()).payload == b"3.5"
        await run.until_printed("zone south, 9 characters")
        await run.until_printed("the broker's password is not seen")
        lines = command_lines(run.tree())
        assert "--keepalive=plant=17" in lines
        assert "br0ker-pw" not in lines
        assert "app-t0ken" not in lines
        assert (await run.until_event("configured"))["process"] == "supervisor"
        run.signal(signal.SIGKILL, run.half("plugin"))
        await run.until_printed("zone south")
        assert (await client.receive()).payload == b"3.5", "the next plugin has the same settings"
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
        assert not any(secret in line for line in run.stderr for secret in ("br0ker-pw", "app-t0ken"))


async def test_halves_alone(broker: Mosquitto, domain: Domain, tmp_path: Path) -> None:
    env = write(tmp_path, broker, domain)
    async with (
        open_client(broker.port, "configured/level") as client,
        open_command("gateway", TARGET, env=env) as gateway,
        open_command("plugin", TARGET, env=env) as plugin,
    ):
        assert (await client.receive()).payload == b"3.5"
        await plugin.until_printed("zone north, 9 characters")
        lines = command_lines([*gateway.tree(), *plugin.tree()])
        assert "br0ker-pw" not in lines
        for half in (plugin, gateway):
            half.signal(signal.SIGTERM)
            assert await half.wait() == 0


async def test_the_present_folders_file_is_read_and_shown(broker: Mosquitto, domain: Domain, tmp_path: Path) -> None:
    write(tmp_path, broker, domain)
    env = {"PYTHONPATH": str(ROOT)}
    async with open_command("config", TARGET, "--json", json_log=False, env=env, cwd=tmp_path) as config:
        assert await config.wait() == 0
    shown = {one["key"]: (one["value"], one["origin"]) for one in json.loads("".join(config.output))}
    assert shown["domain"] == (domain.name, "taktora.toml:1")
    assert shown["connector.plant.broker"] == (f"mqtt://me:***@127.0.0.1:{broker.port}", "taktora.toml:3")
    assert shown["app.api_token"] == ("***", "taktora.toml:8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[app]\nzone = 'a'\nhihg = 3", "taktora.toml:3: app.hihg: the app has no such setting; is high meant?"),
        (
            "[connector.plant]\nbrokr = 'x'",
            "taktora.toml:2: connector.plant.brokr: there is no such key; is broker meant?",
        ),
        ("[app", "taktora.toml:1: it is no TOML: "),
    ],
)
async def test_a_mistake_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "taktora.toml").write_text(text)
    code, output, errors = await run_command(
        "run", TARGET, "--mode", "split", "--config", str(tmp_path / "taktora.toml")
    )
    assert (code, output) == (2, "")
    [line] = errors.splitlines()
    assert line.startswith(f"taktora-trio: {tmp_path}/{message}")


async def test_a_url_with_a_password_in_a_variable_is_in_no_process(
    broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    env = {"TAKTORA_CONNECTOR_PLANT_BROKER": f"mqtt://me:br0ker-pw@127.0.0.1:{broker.port}", "TAKTORA_APP_ZONE": "west"}
    async with (
        open_client(broker.port, "configured/level") as client,
        open_command("run", TARGET, "--mode", "split", "--domain", domain.name, env=env, cwd=ROOT) as run,
    ):
        assert (await client.receive()).payload == b"1.0"
        await run.until_printed("the broker's password is not seen")
        for process in run.tree():
            assert "br0ker-pw" not in " ".join([*process.cmdline(), *process.environ().values()])
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
