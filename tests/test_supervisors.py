"""The units and manifests that an operator deploys start commands that exist, with options that they take."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from taktora_trio.cli import app, parse
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.settings import SETTINGS

FOLDER = Path(__file__).parent.parent / "supervisors"
UNITS = sorted(FOLDER.glob("systemd/*.service"))
MANIFESTS = sorted(FOLDER.glob("kubernetes/*.yaml"))


def accepted(words: list[str]) -> bool:
    """Return true if the command takes these arguments; it is not run. Raises what it would complain about."""
    parse(words)
    settings = {word for word in words if word.startswith("--")} - {
        name for argument in app[words[0]].assemble_argument_collection() for name in argument.names
    }
    return words[0] in ("run", "plugin", "gateway", "healthcheck") and settings <= {one.option for one in SETTINGS}


def test_there_are_some() -> None:
    assert len(UNITS) == 3
    assert len(MANIFESTS) == 1


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_exists(unit: Path) -> None:
    text = unit.read_text().replace("\\\n", "")
    [line] = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    program, *words = shlex.split(line)
    assert Path(program).name == "taktora-trio"
    assert accepted(words)
    assert "Type=notify" in text
    assert re.search(r"^WatchdogSec=\d+$", text, re.MULTILINE)


def stateful_set(manifest: Path) -> dict[str, Any]:
    [found] = [each for each in yaml.safe_load_all(manifest.read_text()) if each["kind"] == "StatefulSet"]
    spec: dict[str, Any] = found["spec"]
    return spec


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_starts_commands_that_exist(manifest: Path) -> None:
    pod = stateful_set(manifest)["template"]["spec"]
    started = [each["command"] for each in pod["containers"]]
    assert [words[1] for words in started] == ["plugin", "gateway"]
    asked = [each[probe]["exec"]["command"] for each in pod["containers"] for probe in each if probe.endswith("Probe")]
    assert len(asked) == 3
    for program, *words in (*started, *asked):
        assert program == "taktora-trio"
        assert accepted(words)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_a_pod_has_no_rights_and_time_to_stop(manifest: Path) -> None:
    spec = stateful_set(manifest)
    pod = spec["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {each["mountPath"] for each in container["volumeMounts"]} >= {"/dev/shm"}
    gateway = pod["containers"][1]
    outlast = float(gateway["command"][gateway["command"].index("--outlast") + 1])
    assert outlast + 2 * MqttOptions().drain_timeout < pod["terminationGracePeriodSeconds"]
    # Another pod of the set has another name, and its successor has the same.
    [name] = [each for each in gateway["env"] if each["name"] == "TAKTORA_CLIENT_ID"]
    assert name["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    [claim] = spec["volumeClaimTemplates"]
    assert {"name": claim["metadata"]["name"], "mountPath": "/var/lib/greenhouse"} in gateway["volumeMounts"]


def test_the_app_is_stopped_before_its_gateway() -> None:
    """systemd stops in the reverse order of starting (systemd.unit(5), After=). No app waits for the network."""
    plugin, gateway = ((FOLDER / f"systemd/greenhouse-{half}.service").read_text() for half in ("plugin", "gateway"))
    assert "After=greenhouse-gateway.service\n" in plugin
    assert "After=" not in gateway


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_finds_nothing_wrong_with_a_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # The program of the example is not installed here, and systemd would say so.
    here = tmp_path / unit.name
    here.write_text(unit.read_text().replace("/opt/greenhouse/.venv/bin/taktora-trio", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", here], capture_output=True, text=True)
    # It reads the units that are installed, too, whose faults are not ours.
    assert [line for line in verified.stderr.splitlines() if unit.name in line] == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_exposed_little(unit: Path) -> None:
    """`systemd-analyze security` gives it less than 2 of 10. The plugin has no network at all."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    looked = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    if "unrecognized option" in looked.stderr:
        pytest.skip("it looks at no files before systemd 250")
    assert looked.returncode == 0, looked.stdout + looked.stderr
    assert ("PrivateNetwork=yes" in unit.read_text()) == (unit.stem == "greenhouse-plugin")


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_tries_again_what_may_pass_and_nothing_else(unit: Path) -> None:
    """By the exit codes 75 and 2. systemd's own limit would give up after five starts in ten seconds."""
    lines = unit.read_text().splitlines()
    assert {"RestartPreventExitStatus=2", "StartLimitIntervalSec=0", "RestartSec=1"} <= set(lines)


def test_the_page_shows_the_unit_as_it_is() -> None:
    """But for what hardens it, which the page tells of."""
    page = (FOLDER.parent / "docs/how-to/systemd.md").read_text()
    [shown] = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
    unit = (FOLDER / "systemd/greenhouse.service").read_text()
    before_hardening = unit[: unit.index("NoNewPrivileges=")] + unit[unit.index("[Install]") :]
    assert _lines(shown) == _lines(before_hardening)


def _lines(unit: str) -> list[str]:
    return [line for line in unit.splitlines() if line and not line.startswith("#")]
