"""`taktora-trio doctor` as it is called: exit codes, text and JSON, bad input, a /dev/shm of its own that is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taktora_trio.cli import parse
from taktora_trio.connectors.finding import fail, ok, warn
from taktora_trio.errors import ConfigError
from taktora_trio.operate.doctor.report import Section, as_json, as_text
from tests.command import ROOT, run_command
from tests.mosquitto import Mosquitto, free_port

ECHO = "examples.echo:deployment"
SECRET = "s3cr3t"


async def test_a_broker_that_works(broker: Mosquitto) -> None:
    env = {"TAKTORA_BROKER_PASSWORD": SECRET}
    url = f"mqtt://house@127.0.0.1:{broker.port}"
    code, output, errors = await run_command("doctor", ECHO, "--broker", url, "--json", env=env)
    said = json.loads(output)
    assert SECRET not in output + errors
    assert errors == ""
    assert (code, said["ok"]) == ((0, True) if not said["failures"] else (1, False))
    login = [one for one in said["findings"] if one["check"] == "login"]
    assert [one["section"] for one in login] == [f"connector mqtt: {url}"]
    assert login[0]["status"] == "ok"
    assert {one["section"] for one in said["findings"]} == {"deployment echo", "this machine", f"connector mqtt: {url}"}


def test_a_broker_that_is_away_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib")  # whose name is short
    monkeypatch.setenv("COLUMNS", "80")
    assert parse(["doctor", ECHO, "--broker", f"mqtt://house:{SECRET}@127.0.0.1:{free_port()}"])() == 1
    output, errors = capsys.readouterr()
    assert SECRET not in output + errors
    assert "  fail  tcp         127.0.0.1: Connection refused\n" in output
    assert all(len(line) <= 80 for line in output.splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--broker", "mqtt://localhost"], "--broker is for a deployment: name it"),
        (["--domain", "x"], "--domain is for a deployment"),
        (["nowhere:deployment"], "nowhere"),
        ([ECHO, "--broker", "localhost"], "mqtt://"),
        ([ECHO, "--colour", "red"], "--colour"),
        ([ECHO, "--broker-password-file", "/nowhere/secret", "--broker", "mqtt://u@localhost"], "/nowhere/secret"),
    ],
)
def test_bad_input(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(["doctor", *arguments])()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounts a /dev/shm of its own")
def test_a_dev_shm_that_is_full_and_belongs_to_others() -> None:
    """No traceback, though most of the library needs what is broken here."""
    command = f"{sys.executable} -m taktora_trio doctor {ECHO} --broker mqtt://127.0.0.1:{free_port()} --json"
    script = (
        "mount -t tmpfs -o size=256k,mode=0777 none /dev/shm && mkdir /dev/shm/taktora-0 && "
        f"chown 54321 /dev/shm/taktora-0 && head -c 250k /dev/zero > /dev/shm/ballast && exec {command}"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")
    found = by_check(json.loads(done.stdout))
    assert found["memory"]["status"] == found["folder"]["status"] == "fail"
    assert "/dev/shm has 256 KiB, 4 KiB free; the deployment takes" in found["memory"]["text"]
    assert "belongs to another user (uid 54321)" in found["folder"]["text"]
    assert found["rights"]["status"] == "warn"
    assert "chmod 1777" in found["rights"]["remedy"]


def by_check(said: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["check"]: one for one in said["findings"]}


def test_text_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [ok("one", "a word " * 20), warn("two", "b", "`rm -r /a-long/path`"), fail("three", "c", "mend it")]
    monkeypatch.setenv("COLUMNS", "60")
    lines = as_text([Section("this machine", findings)]).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[-1] == "1 failure, 1 warning"
    assert "                    -> `rm -r /a-long/path`" in lines
    assert as_text([Section("this machine", findings[:1])]).endswith("\n\nall is well")
    assert json.loads(as_json([Section("this machine", findings)]))["failures"] == 1


def test_it_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No folder is made for what is not there yet."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    parse(["doctor"])()
    assert "this machine" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
