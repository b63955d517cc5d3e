"""Each process of a run has what it needs, and no more: no app that another one runs, and no module of another's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import trio

from taktora_trio import Domain
from tests.client import open_client
from tests.command import MODES, open_run, run_command
from tests.deployment.lean.recording import RECORD
from tests.mosquitto import Mosquitto

DEPLOYMENTS = "tests.deployment.lean.deployment"
APP = "tests.deployment.lean.app"

NOBODYS = (
    # OpenSSL, and what trio, msgspec and urllib would import for rare cases
    *("ssl", "_ssl", "hashlib", "_hashlib", "hmac", "secrets", "idna", "ipaddress", "typing_extensions"),
    *("flatbuffers", "numpy", "attr.validators", "trio._dtls", "trio._ssl", "async_generator"),
    *("inspect", "ast", "dis", "unicodedata", "msgspec.inspect", "msgspec._json_schema"),
    *("asyncio", "concurrent", "email", "http", "multiprocessing", "sqlite3", "cyclopts", "rich"),
    *("aiomqtt", "paho", "wsproto", "amqtt", "taktora_trio.cli", "taktora_trio.chaos", "taktora_trio.operate"),
    *("mcap", "zstandard", "lz4", "taktora_trio.recorder", "taktora_trio.replay"),
)
OF_THE_GATEWAY = ("taktora_trio.connectors.bridge", "taktora_trio.connectors.gateway", "taktora_trio.connectors.outbox")
OF_THE_HOST = ("taktora_trio.host.reader", "taktora_trio.host.writer", "taktora_trio.host.watch")
KEPT_OUT = {
    "supervisor": (*OF_THE_GATEWAY, *OF_THE_HOST, "taktora_trio.executor"),
    "plugin": (
        *(*OF_THE_GATEWAY, "taktora_trio.connectors.mqtt.client", "taktora_trio.connectors.mqtt.sessions"),
        *("taktora_trio.executor", "taktora_trio.processes.parent", "taktora_trio.supervision.engine"),
    ),
    "gateway": (*OF_THE_HOST, "taktora_trio.processes.parent"),
}
"""Modules that would make a process larger for nothing (`python -m benchmarks.memory` says by how much)."""


def unwanted_in(process: str, records: Path) -> set[str]:
    """Return the modules that this process of a run had at its end for nothing."""
    modules = set(json.loads((records / process).read_text()))
    assert "taktora_trio.lean" in modules, "else the record would tell nothing"
    unwanted = modules & {*NOBODYS, *KEPT_OUT[process]}
    if sys.version_info >= (3, 13):  # the standard library's own modules have come to import it
        unwanted.discard("ipaddress")
    return unwanted


async def test_gateway_and_supervisor_never_load_the_app(broker: Mosquitto, domain: Domain, tmp_path: Path) -> None:
    """The app takes 5 s to import, and then can't: by that time the others run, and they end without having seen it."""
    records = tmp_path / "records"
    records.mkdir()
    async with open_run(f"{DEPLOYMENTS}:needs_too_much", "split", broker, domain, env={RECORD: str(records)}) as run:
        await run.until_event("connected")
        assert await run.wait() == 2
    modules = {name: json.loads((records / name).read_text()) for name in ("gateway", "supervisor")}
    for loaded in modules.values():
        assert DEPLOYMENTS in loaded, "else the record would tell nothing"
        assert APP not in loaded
    assert "taktora_trio.connectors.mqtt.sessions.native" in modules["gateway"]
    [line] = {line.partition("taktora-trio: ")[2] for line in run.stderr if '"taktora-trio: ' in line}
    assert line.startswith(f"the app of deployment 'lean': module '{APP}' needs 'a_package_that_is_not_there'")


@pytest.mark.parametrize("mode", MODES)
async def test_an_app_by_name_runs_in_both_shapes(mode: str, broker: Mosquitto, domain: Domain, tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_client(broker.port, "test/lean") as client:
            env = {RECORD: str(tmp_path)} if mode == "split" else {}
            async with open_run(f"{DEPLOYMENTS}:good", mode, broker, domain, env=env) as run:
                assert await run.wait() == 3
            assert (await client.receive()).payload == b'"done"'
    if mode == "split":
        for process in KEPT_OUT:
            assert unwanted_in(process, tmp_path) == set(), process


@pytest.mark.parametrize(
    ("command", "name", "told"),
    [
        (["run", "--mode", "in-process"], "no_module", "there is no module 'tests.deployment.lean.ap' here"),
        (["plugin"], "no_function", "module 'tests.deployment.lean.good_app' has no function named 'man'; that module"),
    ],
    ids=["run", "plugin"],
)
async def test_an_app_that_is_not_there_is_one_line(
    command: list[str], name: str, told: str, broker: Mosquitto, domain: Domain
) -> None:
    code, _, stderr = await run_command(
        command[0], f"{DEPLOYMENTS}:{name}", *command[1:], "--broker", broker.url, "--domain", domain.name
    )
    assert code == 2
    [line] = [line for line in stderr.splitlines() if "taktora-trio: " in line]
    assert line.startswith(f"taktora-trio: the app of deployment 'lean': {told}")
