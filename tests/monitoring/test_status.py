"""`status` and `ps`: what they show, and the exit codes that scripts rely on."""

from __future__ import annotations

import json
import os
import uuid
from typing import Any

import pytest

from taktora_trio import Domain, vitals
from taktora_trio.cli import parse
from taktora_trio.errors import ConfigError, NoSuchDomain
from taktora_trio.runners.this_process.outcome import call
from tests.vitals.pages import NOW, change, channel, down, open_run, page, up


@pytest.fixture
def domain() -> Domain:
    return Domain(f"s{uuid.uuid4().hex[:8]}")


def run(*arguments: str) -> int | None:
    return parse(arguments)()


def test_a_run_that_is_well(domain: Domain, capsys: pytest.CaptureFixture[str]) -> None:
    shown = channel(messages=12_345, in_use=3, store_bytes=50, store_limit=100, store_full_in=200.0, latency=0.00031)
    with open_run(domain, page(domain, "plugin", channels=[shown]), page(domain, "gateway", channels=[])):
        assert run("status", "--domain", domain.name) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{domain.name} (greenhouse)  in-process  all is well"
    assert lines[2].split()[:4] == ["plugin", "runs", "pid", str(os.getpid())]
    assert lines[4].startswith("mqtt       Up          since")
    assert lines[4].endswith("reconnects 0  mqtt://broker:1883")
    assert lines[6].split() == "channel sent bytes window waits lost store full in age latency".split()  # noqa: SIM905
    assert lines[7].split() == ["north", "out", "12.3k", "100k", "3/64", "0", "0", "50%", "3m20s", "-", "310us"]
    assert lines[-1] == "2025-11-26 12:00:00 UTC  mqtt Connecting -> Up"
    assert [line for line in lines if len(line) > 80] == []


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"connectors": [down()]}, "connection refused"),
        ({"has_ended": True}, "it has ended"),
    ],
    ids=["down", "gone"],
)
def test_a_run_that_is_not_well(
    more: dict[str, Any], problem: str, domain: Domain, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_run(domain, page(domain, "plugin", **more), page(domain, "gateway")):
        assert run("status", "--domain", domain.name) == 1
        shown = capsys.readouterr().out
        assert "1 problem\n" in shown
        assert problem in shown
        assert run("status", "--domain", domain.name, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["is_well"], len(found["problems"])) == (False, 1)
    assert problem in found["problems"][0]


def test_what_the_other_side_says_forges_no_line(domain: Domain, capsys: pytest.CaptureFixture[str]) -> None:
    evil = down(reason="no\n\x1b[2Jall is well " + "x" * 1000)
    history = [change("Down", at=NOW, reason="\u202eevil\n")]
    with open_run(domain, page(domain, "plugin", connectors=[evil], history=history), page(domain, "gateway")):
        assert run("status", "--domain", domain.name) == 1
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "no\\n\\x1b[2Jall" in shown


def test_no_such_run(domain: Domain) -> None:
    with pytest.raises(NoSuchDomain, match=domain.name):
        run("status", "--domain", domain.name)
    assert call(lambda: run("status", "--domain", domain.name)) == 3
    with pytest.raises(ConfigError, match="letters"):
        run("status", "--domain", "../other")


def test_all_runs_are_listed(domain: Domain, capsys: pytest.CaptureFixture[str]) -> None:
    other = Domain(f"{domain.name}-with-a-long-name")
    ill = page(other, "plugin", connectors=[up("a"), down("b")])
    with open_run(domain), open_run(other, ill, roles=("owner", "plugin")):
        assert run("ps") == 0
        lines = capsys.readouterr().out.splitlines()
        assert run("ps", "--json") == 0
    assert lines[0].split() == ["domain", "app", "mode", "plugin", "gateway", "health", "up"]
    line = next(line.split() for line in lines if line.split()[0] == domain.name)
    half = ["runs", str(os.getpid())]
    assert line[:-1] == [domain.name, "greenhouse", "in-process", *half, *half, "Up"]
    found = {one["domain"]: one for one in json.loads(capsys.readouterr().out)}
    assert found[domain.name]["is_well"] is True
    assert (found[other.name]["health"], found[other.name]["gateway"]) == ("b Down", "none")
    assert found[other.name]["is_well"] is False


def test_of_a_run_that_was_killed_as_a_whole_no_health_is_known(
    domain: Domain, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = [page(domain, name, has_ended=True) for name in ("plugin", "gateway")]
    with open_run(domain, *pages):
        assert run("ps", "--json") == 0
    [found] = [one for one in json.loads(capsys.readouterr().out) if one["domain"] == domain.name]
    assert (found["plugin"], found["gateway"], found["health"]) == ("gone", "gone", "")


def test_where_nothing_runs_ps_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(vitals, "domains", list)
    assert run("ps") == 0
    assert capsys.readouterr().out.startswith(f"nothing runs here as this user (uid {os.geteuid()})")
    assert run("ps", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
