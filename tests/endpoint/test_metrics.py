"""Metrics: each name by Prometheus's conventions, in both formats, without a sample of what nobody knows."""

from __future__ import annotations

import re

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from taktora_trio import vitals
from taktora_trio.operate.endpoint.metrics import exposition, families
from taktora_trio.transport.domain import Domain
from tests.command import ROOT
from tests.vitals.pages import channel, down, page

from .runs import get, open_living_run, opened

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
UNITS = ("seconds", "bytes", "messages", "total", "info", "letters")
WITHOUT_UNIT = {"taktora_up", "taktora_half_up", "taktora_half_restarts", "taktora_connector_health"} | {
    "taktora_connector_reconnects"
}


def samples(text: str) -> dict[str, float]:
    """Return the value of each sample, by its name and labels as they are written."""
    return {
        "{}{{{}}}".format(one.name, ",".join(f"{key}={value}" for key, value in sorted(one.labels.items()))): one.value
        for family in parse_text(text)
        for one in family.samples
    }


async def test_a_run_in_both_formats(domain: Domain) -> None:
    gateway = page(domain, "gateway", channels=[channel(messages=7, backlog=3, store_bytes=512, discarded=2)])
    with open_living_run(domain, page(domain, "plugin", restarts=4), gateway):
        plain = await get(opened(domain), "/metrics", accept="text/plain")
        asked = await get(opened(domain), "/metrics", accept=OPENMETRICS)
    assert plain.content_type.startswith("text/plain; version=0.0.4")
    assert asked.content_type.startswith(OPENMETRICS)
    assert asked.content.endswith(b"# EOF\n")
    names = {one.name for one in parse_openmetrics(asked.content.decode())}  # type: ignore[no-untyped-call]
    assert names >= {"taktora_up", "taktora_channel_messages"}
    found = samples(plain.content.decode())
    label = f"domain={domain.name}"
    of_channel = f"channel=north,connector=mqtt,direction=out,{label}"
    of_channel = ",".join(sorted(of_channel.split(",")))
    assert found[f"taktora_up{{{label}}}"] == 1
    assert found[f"taktora_half_up{{{label},half=gateway}}"] == 1
    assert found[f"taktora_half_restarts_total{{{label},half=plugin}}"] == 4
    assert found[f"taktora_connector_health{{connector=mqtt,{label},state=up}}"] == 1
    assert found[f"taktora_connector_health{{connector=mqtt,{label},state=down}}"] == 0
    assert found[f"taktora_channel_messages_total{{{of_channel}}}"] == 7
    assert found[f"taktora_channel_backlog_messages{{{of_channel}}}"] == 3
    assert found[f"taktora_channel_store_bytes{{{of_channel}}}"] == 512
    assert found[f"taktora_channel_discarded_messages_total{{{of_channel}}}"] == 2
    assert f"taktora_channel_store_limit_bytes{{{of_channel}}}" not in found  # nobody knows


async def test_a_run_that_is_not_there_is_down(domain: Domain) -> None:
    found = samples((await get(opened(domain), "/metrics")).content.decode())
    assert found[f"taktora_up{{domain={domain.name}}}"] == 0
    assert [name for name in found if not name.startswith(("taktora_up", "taktora_build"))] == []


def test_a_half_that_is_gone_is_down_and_the_broker_has_its_state(domain: Domain) -> None:
    with open_living_run(domain, page(domain, "plugin", connectors=[down(reason='it said "no"\n')])):
        seen = vitals.read(domain)
        text = exposition(seen, domain.name)[0].decode()
    found = samples(text)
    assert found[f"taktora_half_up{{domain={domain.name},half=plugin}}"] == 1
    assert found[f"taktora_connector_health{{connector=mqtt,domain={domain.name},state=down}}"] == 1


def test_names_follow_the_conventions_and_the_page_lists_them(domain: Domain) -> None:
    with open_living_run(domain):
        found = list(families(vitals.read(domain), domain.name))
    listed = (ROOT / "docs/how-to/probe-and-measure.md").read_text()
    for family in found:
        assert re.fullmatch(r"taktora(_[a-z]+)+", family.name)
        assert family.documentation
        assert family.name in WITHOUT_UNIT or family.name.endswith(UNITS) or family.type == "info", family.name
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        assert f"`{family.name}{suffix}`" in listed, family.name
    names = set(re.findall(r"`(taktora_[a-z_]+)`", listed))
    assert names == {family.name + {"counter": "_total", "info": "_info"}.get(family.type, "") for family in found}


def test_alerts_and_board_know_no_other_metric(domain: Domain) -> None:
    with open_living_run(domain):
        found = families(vitals.read(domain), domain.name)
        names = {family.name + {"counter": "_total", "info": "_info"}.get(family.type, "") for family in found}
    for file in ("alerts.yaml", "board.json"):
        used = set(re.findall(r"\btaktora_[a-z_]+", (ROOT / "supervisors" / "grafana" / file).read_text()))
        assert len(used) > 10
        assert used <= names, file
