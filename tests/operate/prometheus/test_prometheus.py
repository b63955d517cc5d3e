"""Prometheus scrapes a run, its alerts come, and its own tool finds nothing wrong with metrics, rules and board."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trio
import yaml

from taktora_trio import vitals
from taktora_trio.operate.endpoint.metrics import families
from taktora_trio.transport.domain import Domain
from tests.command import ROOT, open_run
from tests.deployment.test_endpoint import address_of, until
from tests.endpoint.asking import ask
from tests.endpoint.runs import get, open_living_run, opened
from tests.mosquitto import Mosquitto, free_port
from tests.patience import PATIENCE

GRAFANA = ROOT / "supervisors" / "grafana"
HERE = Path(__file__).parent
THERMOSTAT = "examples.thermostat:deployment"
TOKEN = "a-token-that-prometheus-gives"

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None or shutil.which("prometheus") is None,
    reason="prometheus is not installed (Debian: apt-get install prometheus)",
)


def promtool(*arguments: str | Path, given: bytes = b"") -> str:
    """Run it, and fail if it finds anything."""
    done = subprocess.run(["promtool", *map(str, arguments)], input=given, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def board_expressions() -> list[str]:
    """Return each expression of the board as Grafana asks for it."""
    board = json.loads((GRAFANA / "board.json").read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    assert len(found) > 20
    return [
        expression.replace("$__rate_interval", "1m").replace("$domain", ".*").replace("$connector", ".*")
        for expression in found
    ]


class Prometheus:
    """A server that scrapes one endpoint each second."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)

    async def get(self, path: str) -> Any:
        with trio.fail_after(PATIENCE):
            while True:
                with contextlib.suppress(OSError):
                    reply = await ask(self._address, path)
                    if reply.status == 200:
                        return json.loads(reply.content)["data"]
                await trio.sleep(0.1)

    async def query(self, expression: str) -> list[Any]:
        found: list[Any] = (await self.get(f"/api/v1/query?query={quote(expression)}"))["result"]
        return found

    async def until(self, expression: str) -> list[Any]:
        """Ask until there is a result."""
        with trio.fail_after(PATIENCE):
            while not (found := await self.query(expression)):  # noqa: ASYNC110 - it tells nobody
                await trio.sleep(0.2)
            return found


@contextlib.asynccontextmanager
async def open_prometheus(folder: Path, endpoint: tuple[str, int], token: str) -> AsyncIterator[Prometheus]:
    """Start it, with our rules, whose patience is a second here."""
    rules = re.sub(r"for: \w+", "for: 1s", (GRAFANA / "alerts.yaml").read_text())
    (folder / "alerts.yaml").write_text(rules)
    (folder / "token").write_text(token)
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [
            {
                "job_name": "taktora",
                "authorization": {"credentials_file": "token"},
                "static_configs": [{"targets": [f"{endpoint[0]}:{endpoint[1]}"]}],
            }
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    promtool("check", "config", folder / "prometheus.yaml")
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log:
        process = await trio.lowlevel.open_process(command, stdout=log, stderr=log)
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
            await process.wait()


def test_the_rules_and_their_tests(tmp_path: Path) -> None:
    for file in (GRAFANA / "alerts.yaml", HERE / "rules.yaml"):
        shutil.copy(file, tmp_path)
    promtool("check", "rules", tmp_path / "alerts.yaml")
    promtool("test", "rules", tmp_path / "rules.yaml")
    alerts = {rule["alert"] for rule in yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"][0]["rules"]}
    tested = yaml.safe_load((HERE / "rules.yaml").read_text())["tests"]
    fired = {one["alertname"] for case in tested for one in case["alert_rule_test"] if one.get("exp_alerts")}
    quiet = {one["alertname"] for case in tested[:1] for one in case["alert_rule_test"]}
    assert alerts == fired == quiet  # each one is seen to come, and to stay away


def test_the_board_asks_for_what_there_is(tmp_path: Path) -> None:
    rules = [{"record": f"board:{index}", "expr": one} for index, one in enumerate(board_expressions())]
    (tmp_path / "board.yaml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "board.yaml")


async def test_promtool_finds_nothing_wrong_with_the_metrics(domain: Domain) -> None:
    with open_living_run(domain):
        metrics = await get(opened(domain), "/metrics")
        assert len(list(families(vitals.read(domain), domain.name))) > 30
    promtool("check", "metrics", given=metrics.content)


async def test_it_scrapes_a_run_and_an_alert_comes_when_a_half_is_stopped(
    broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    token = tmp_path / "endpoint-token"
    token.write_text(TOKEN)
    more = ("--endpoint", "127.0.0.1:0", "--endpoint-token-file", str(token), "--gateway-policy", "watchdog=off")
    async with open_run(THERMOSTAT, "split", broker, domain, *more) as run:
        address = await address_of(run)
        await run.until_event("health-up")
        await until(address, "/readyz", "readyz passed")
        async with open_prometheus(tmp_path, address, TOKEN) as prometheus:
            label = f'domain="{domain.name}"'
            await prometheus.until(f'taktora_connector_health{{{label}, state="up"}} == 1')
            [target] = (await prometheus.get("/api/v1/targets"))["activeTargets"]
            assert (target["health"], target["lastError"]) == ("up", "")
            await prometheus.until(f"rate(taktora_channel_messages_total{{{label}}}[10s]) > 0")
            assert await prometheus.query("ALERTS") == []
            for expression in board_expressions():
                await prometheus.query(expression)  # each is one that the server takes

            gateway = run.half("gateway")
            run.signal(signal.SIGSTOP, gateway)
            try:
                [alert] = await prometheus.until('ALERTS{alertname="TaktoraHalfDown", alertstate="firing"}')
                assert alert["metric"]["half"] == "gateway"
                assert alert["metric"]["severity"] == "page"
            finally:
                run.signal(signal.SIGCONT, gateway)
            await prometheus.until(
                'taktora_half_up{half="gateway"} == 1 unless on() ALERTS{alertname="TaktoraHalfDown"}'
            )

            await broker.stop()
            [alert, *_] = await prometheus.until('ALERTS{alertname="TaktoraConnectorNotUp", alertstate="firing"}')
            assert alert["metric"]["state"] == "connecting"
            run.signal(signal.SIGTERM)
            assert await run.wait() == 0
            await prometheus.until('ALERTS{alertname="TaktoraEndpointUnreachable", alertstate="firing"}')
