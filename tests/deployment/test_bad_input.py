"""Bad input is one clear line that says what to change, and exit code 2 (75 where it may pass); never a traceback."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from taktora_trio.transport.domain import Domain
from tests.command import MODES, open_command, open_run, run_command
from tests.mosquitto import Mosquitto, free_port

ECHO = "examples.echo:deployment"

DECLARATIONS = {
    "two channels of one name": (
        "MqttConnector([Outbound('a', int, MqttRouting('x')), Inbound('a', int, MqttRouting('y'))])",
        ["two channels named 'a'", "rename"],
    ),
    "a shared subscription on an outbound channel": (
        "MqttConnector([Outbound('a', int, MqttRouting('$share/x/y'))])",
        ["channel 'a'", "'$share/x/y'", "shared subscription"],
    ),
    "a template without its field": (
        "MqttConnector([Inbound('a', int, MqttRouting('x/{unit}'))])",
        ["channel 'a'", "no fields for the topic"],
    ),
    "a filter that MQTT forbids": (
        "MqttConnector([Inbound('a', int, MqttRouting('x/#/y'))])",
        ["channel 'a'", "'x/#/y'", "last level"],
    ),
    "a plus that shares its level": (
        "MqttConnector([Inbound('a', int, MqttRouting('x/y+'))])",
        ["channel 'a'", "'x/y+'", "whole of its level"],
    ),
    "an empty topic": ("MqttConnector([Outbound('a', int, MqttRouting(''))])", ["at least one character"]),
    "a payload limit of zero": (
        "MqttConnector([Outbound('a', int, MqttRouting('x'), max_payload=0)])",
        ["channel 'a'", "max_payload", "at least 1"],
    ),
    "a QoS of three": ("MqttConnector([Outbound('a', int, MqttRouting('x', qos=3))])", ["QoS", "0, 1 or 2"]),
    "a name that can't be one": ("MqttConnector([Outbound('a b', int, MqttRouting('x'))])", ["'a b'", "letters"]),
    "a type that no codec knows": (
        "MqttConnector([Outbound('a', object(), MqttRouting('x'))])",
        ["can't be decoded"],
    ),
    "no channels": ("MqttConnector([])", ["no channels"]),
    "a broker URL that is none": (
        "MqttConnector([Outbound('a', int, MqttRouting('x'))], options=MqttOptions(broker='localhost'))",
        ["mqtt://"],
    ),
}


async def refused(*arguments: str, code: int = 2) -> str:
    """The one line that the command printed when it refused."""
    ended, output, errors = await run_command(*arguments)
    assert "Traceback" not in errors
    assert ended == code, errors
    assert output == ""
    [line] = errors.splitlines()
    return line


@pytest.mark.parametrize("name", DECLARATIONS)
async def test_declarations(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declaration, parts = DECLARATIONS[name]
    (tmp_path / "declared.py").write_text(
        f"from taktora_trio import *\nasync def app(host): ...\ndeployment = Deployment('bad', app, [{declaration}])\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    line = await refused("run", "declared:deployment", "--mode", "in-process")
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("nosuchmodule:deployment", ["no module 'nosuchmodule'"]),
        ("examples.nosuch:deployment", ["no module 'examples.nosuch'"]),
        ("examples.echo:nothing", ["'nothing'", "it has deployment"]),
        ("examples.echo:echo", ["a function, not a Deployment", "it has deployment"]),
        ("examples.echo", ["MODULE:DEPLOYMENT"]),
        ("examples/echo.py:deployment", ["is a file", "write examples.echo:deployment"]),
    ],
)
@pytest.mark.parametrize("command", [("run", "--mode", "split"), ("plugin",), ("gateway",), ("plan",)])
async def test_targets(target: str, parts: list[str], command: tuple[str, ...]) -> None:
    line = await refused(command[0], target, *command[1:])
    for part in parts:
        assert part in line


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("mqt://localhost", "mqtt://"),
        ("localhost:1883", "mqtt://"),
        ("mqtt://", "names no host"),
        ("mqtt://localhost:99999", "port"),
        ("mqtt://localhost/topic", "after the port"),
        ("mqtt://no-such-host.invalid", "can't be reached"),
        ("mqtt://a..b", "no host name"),
        ("mqtt://ü\udcff.example", "no host name"),
        ("mqtt://[fe80::1%25nosuch]", "can't be reached"),
        ("@/no/such/file", "the file of the broker URL /no/such/file can't be read"),
    ],
)
async def test_broker_urls(url: str, part: str, mode: str) -> None:
    code = os.EX_TEMPFAIL if part == "can't be reached" else 2
    assert part in await refused("run", ECHO, "--mode", mode, "--broker", url, code=code)


@pytest.mark.parametrize("mode", MODES)
async def test_an_unreachable_broker(mode: str, domain: Domain) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    line = await refused("run", ECHO, "--mode", mode, "--broker", url, "--domain", domain.name, code=os.EX_TEMPFAIL)
    assert url in line
    assert "--await-broker" in line


async def test_an_unreachable_broker_can_be_awaited(domain: Domain) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    async with open_command(
        "run", ECHO, "--mode", "split", "--broker", url, "--domain", domain.name, "--await-broker"
    ) as run:
        await run.until_event("connection-failed", count=2)
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", ECHO),
        ("run", ECHO, "--mode", "both"),
        ("run", ECHO, "--mode", "split", "--for", "soon"),
        ("run", ECHO, "--mode", "split", "--for", "0"),
        ("run", ECHO, "--mode", "split", "--for", "nan"),
        ("run", ECHO, "--mode", "split", "--for", "-inf"),
        ("run", ECHO, "--mode", "split", "--for", "a\nb"),
        ("run", ECHO, "--mode", "split", "--for", "1", "--for", "2"),
        ("run", ECHO, "--mode", "split", "--domain", "a/b"),
        ("run", ECHO, "--mode", "split", "--domain", ""),
        ("run", ECHO, "--mode", "split", "--store", ""),
        ("gateway", ECHO, "--store", ""),
        ("gateway", ECHO, "--outlast", "nan"),
        ("plan", ECHO, "--store="),
        ("dead-letters", "list", ECHO, "--store", ""),
        ("run", ECHO, "--mode", "split", "--domain", os.fsdecode(b"\xff")),
        ("run", os.fsdecode(b"\xff:\xff"), "--mode", "split"),
        ("run", ECHO, "--mode", "split", "--nonsense"),
        ("run", ECHO, "--mode", "split", "--brokr", "mqtt://localhost"),
        ("gateway", ECHO, "--broker", "mqtt=embedded"),
        ("run", ECHO, "--mode", "split", "--broker-password-file", "/no/such/file"),
        ("run", ECHO, "--mode", "split", "--broker", "mqtt://a:b@localhost", "--broker-password-file", "/dev/null"),
        ("plugin", ECHO, "--broker", "embedded"),
        ("gateway", ECHO, "--broker", "embedded"),
        ("walk", ECHO),
    ],
)
async def test_arguments(arguments: tuple[str, ...]) -> None:
    await refused(*arguments)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("second", MODES)
async def test_two_deployments_in_one_domain(mode: str, second: str, broker: Mosquitto, domain: Domain) -> None:
    async with open_run(ECHO, mode, broker, domain) as run:
        await run.until_event("health-up")
        arguments = ("run", ECHO, "--mode", second, "--broker", broker.url, "--domain", domain.name)
        line = await refused(*arguments, code=os.EX_TEMPFAIL)
        assert f"domain {domain.name!r} already has" in line
        assert "--domain" in line
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0


async def test_a_deployment_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker: Mosquitto, domain: Domain
) -> None:
    (tmp_path / "huge.py").write_text(
        "from taktora_trio import *\n"
        "async def app(host): ...\n"
        "channel = Outbound('huge', bytes, MqttRouting('x'), max_payload=200_000_000, window=1_000_000)\n"
        "deployment = Deployment('huge', app, [MqttConnector([channel], codec=RawCodec())])\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for mode in MODES:
        code, _, errors = await run_command(
            *("run", "huge:deployment", "--mode", mode, "--broker", broker.url, "--domain", domain.name)
        )
        assert code == 2
        assert "needs" in errors.splitlines()[0]
        assert "taktora.connector.mqtt.huge.out" in errors, "the table is shown"
        assert "Traceback" not in errors
    code, output, errors = await run_command("plan", "huge:deployment", "--json")
    plan = json.loads(output)
    assert code == 2
    assert not plan["fits"]
    assert plan["total_bytes"] > 2e14


async def test_plan() -> None:
    code, output, _ = await run_command("plan", ECHO)
    assert code == 0
    for name in ("request.in", "reply.out", "health", "total", "free in"):
        assert name in output
    code, output, _ = await run_command("plan", ECHO, "--json")
    plan = json.loads(output)
    assert plan["fits"]
    assert plan["total_bytes"] == sum(s["total_bytes"] for s in plan["channels"]) + plan["overhead_bytes"]


async def test_help_teaches() -> None:
    code, output, _ = await run_command("--help")
    assert code == 0
    for command in ("run", "plugin", "gateway", "plan"):
        assert command in output
    code, output, _ = await run_command("run", "--help")
    assert code == 0
    for option in ("--mode", "--broker", "--domain", "--for", "--log", "mqtts://", "embedded"):
        assert option in output
