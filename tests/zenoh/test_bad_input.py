"""A Zenoh deployment that can't run says why in one line, with exit code 2, or 75 where it may pass."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from taktora_trio import ConfigError, Outbound, ZenohConnector, ZenohOptions, ZenohRouting
from taktora_trio.testing.server import free_port
from taktora_trio.testing.zenoh.router import open_router
from taktora_trio.transport.domain import Domain
from tests.command import open_command, run_command
from tests.deployment.test_bad_input import refused
from tests.deployment.test_broker_security import environments, shown_anywhere
from tests.zenoh.test_login import Pki, tls_router
from tests.zenoh.test_shapes import _maps

pytestmark = pytest.mark.zenoh

OBEYING = "tests.zenoh.operated_apps:deployment"
SECRET = "hunter2-and-more"

APP = """
from taktora_trio import *
async def app(host):
    raise AssertionError("nothing is to be started")
deployment = Deployment("z", app, [ZenohConnector([Outbound("a", int, ZenohRouting({key!r}))], {options})])
"""


@pytest.fixture
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = tmp_path / "declared_zenoh.py"
    path.write_text(APP.format(key="a", options=""))
    return path


TARGET = "declared_zenoh:deployment"


def _declare(path: Path, text: str) -> None:
    path.write_text(text)


async def test_a_key_that_is_none(declared: Path) -> None:
    _declare(declared, APP.format(key="a/**/*", options=""))
    line = await refused("run", TARGET, "--mode", "in-process")
    assert "channel 'a': key expression 'a/**/*': its canonical form is 'a/*/**'" in line


CONFIGS = {
    "no JSON5": ("{mode", "line 1, column 1: expected array, boolean"),
    "a field that there is not": ("{transport: {nonsense: 1}}", "unknown field `nonsense`"),
    "a mode of its own": ('{mode: "peer"}', "its mode is 'peer', and the connector's is 'client'"),
    "an endpoint that is none": ('{connect: {endpoints: ["x"]}}', "Endpoints must be of the form"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_its_own_configuration_is_refused_before_anything_is_started(tmp_path: Path, name: str) -> None:
    text, part = CONFIGS[name]
    path = tmp_path / "own.json5"
    path.write_text(text)
    connector = ZenohConnector([Outbound("a", int, ZenohRouting("a"))], options=ZenohOptions(zenoh_config=path))
    with pytest.raises(ConfigError, match=f"zenoh_config {path}") as refused:
        connector.check_files()
    assert part in str(refused.value)
    assert str(refused.value).isprintable()
    assert ".rs:" not in str(refused.value)


async def test_its_own_configuration_reaches_the_gateway(tmp_path: Path, domain: Domain) -> None:
    path = tmp_path / "own.json5"
    async with open_router(tmp_path, users={"plant": SECRET}) as router:
        login = f'transport: {{auth: {{usrpwd: {{user: "plant", password: "{SECRET}"}}}}}}'
        _declare(path, f'{{connect: {{endpoints: ["{router.endpoint}"]}}, /* here alone */ {login}}}')
        arguments = ["run", OBEYING, "--mode", "split", "--domain", domain.name, "--zenoh-config", str(path)]
        async with open_command(*arguments) as run:
            await run.until_event("health-up")
            shown = shown_anywhere([process.pid for process in run.tree()])
            run.signal(signal.SIGTERM)
            assert await run.wait() == 0
    assert SECRET not in shown + "\n".join(run.stderr + run.output)


async def test_certificates_reach_the_gateway(tmp_path: Path, domain: Domain) -> None:
    pki = Pki(tmp_path)
    _, _, both = pki.issue("client", "client@example.org")
    async with tls_router(pki, asks=True) as router:
        files = ["--ca-file", str(pki.ca_file()), "--cert-file", str(both)]
        arguments = ["run", OBEYING, "--mode", "split", "--domain", domain.name, "--connect", router.endpoint]
        async with open_command(*arguments, *files) as run:
            for count in (1, 2):
                await run.until_event("health-up", count=count)
                run.signal(signal.SIGKILL, run.half("gateway"))
            await run.until_event("health-up", count=3)
            run.signal(signal.SIGTERM)
            assert await run.wait() == 0


async def test_a_run_refuses_it_with_one_line(declared: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.json5"
    _declare(path, CONFIGS["a field that there is not"][0])
    line = await refused("run", TARGET, "--mode", "split", "--zenoh-config", str(path))
    assert f"zenoh_config {path} is refused" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--connect", "tcp://localhost:7447"], "write tcp/localhost:7447"),
        (["--user", "plant"], "'plant' has no password: give it by --zenoh-password-file"),
        (["--ca-file", "/nowhere/ca.pem"], "a CA file was given, but no endpoint is reached by TLS"),
        (["--connector.zenoh.mode", "broker"], "use client, peer or router"),
    ],
)
async def test_options_that_can_not_be(declared: Path, arguments: list[str], says: str) -> None:
    assert says in await refused("run", TARGET, "--mode", "split", *arguments)


async def test_no_router_is_said_and_may_pass(declared: Path) -> None:
    at = f"tcp/127.0.0.1:{free_port()}"
    line = await refused("run", TARGET, "--mode", "split", "--connect", at, code=75)
    assert f"{at} can't be reached (Connection refused): check --connect, start the router, or use --await-peer" in line


@pytest.mark.parametrize(("mode", "way"), [("split", "variable"), ("in-process", "file")])
async def test_a_router_that_comes_late_and_asks_for_a_password_which_nothing_shows(
    mode: str, way: str, tmp_path: Path, domain: Domain
) -> None:
    port = free_port()
    more, env = ["--user", "plant"], {"TAKTORA_ZENOH_PASSWORD": SECRET}
    if way == "file":
        (tmp_path / "secret").write_text(f"{SECRET}\n")
        more, env = [*more, "--zenoh-password-file", str(tmp_path / "secret")], {}
    at = f"tcp/127.0.0.1:{port}"
    arguments = [
        "run",
        OBEYING,
        "--mode",
        mode,
        "--domain",
        domain.name,
        "--connect",
        at,
    ]
    async with open_command(*arguments, "--await-peer", *more, env=env) as run:
        await run.until_event("connection-failed", f"{at} can't be reached (Connection refused)")
        async with open_router(tmp_path, port=port, users={"plant": SECRET}):
            await run.until_event("health-up")
            pids = [process.pid for process in run.tree()]
            shown = shown_anywhere(pids) + environments(pids)
            if mode == "split":
                for pid in (run.pid, run.half("plugin")):
                    assert "/zenoh" not in _maps(pid)
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
    assert SECRET not in shown + "\n".join(run.stderr + run.output)


async def test_a_wrong_password_is_a_login_that_is_refused(tmp_path: Path, domain: Domain) -> None:
    (tmp_path / "secret").write_text(SECRET)
    async with open_router(tmp_path, users={"plant": "other"}) as router:
        arguments = ["run", OBEYING, "--mode", "split", "--domain", domain.name]
        login = ["--connect", router.endpoint, "--user", "plant", "--zenoh-password-file", str(tmp_path / "secret")]
        async with open_command(*arguments, *login) as run:
            await run.until_event("login-refused", "refuses this node: its login, or its certificate")
        assert SECRET not in "\n".join(run.stderr + run.output)


async def test_what_is_configured_is_shown_without_the_password(declared: Path) -> None:
    code, output, errors = await run_command(
        "config", TARGET, "--json", "--user", "plant", env={"TAKTORA_ZENOH_PASSWORD": SECRET}
    )
    assert code == 0, errors
    assert "connector.zenoh.password" not in output
    shown = {one["key"]: one for one in json.loads(output)}
    assert SECRET not in output + errors
    assert shown["connector.zenoh.zenoh-password-file"]["value"] == "***"
    assert shown["connector.zenoh.zenoh-password-file"]["origin"] == "TAKTORA_ZENOH_PASSWORD"
    assert shown["connector.zenoh.user"]["value"] == "plant"


async def test_a_password_that_nobody_waits_for_is_refused(declared: Path) -> None:
    code, _, errors = await run_command("run", TARGET, "--mode", "split", env={"TAKTORA_ZENOH_PASSWORD": SECRET})
    assert code == 2
    assert "name the user, by --user NAME" in errors
    assert SECRET not in errors
