"""The compose file, by podman-compose: one container with both halves and their supervisor, which is process 1."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.command import ROOT
from tests.operate.containers.ear import PASSWORD, open_broker, open_ear
from tests.operate.containers.image import IMAGE
from tests.operate.containers.machine import Podman

COMPOSE = ROOT / "supervisors/compose/compose.yaml"
NAME = "greenhouse"
_BROKER = "mqtts://greenhouse@broker.example:8883"


pytestmark = pytest.mark.timeout(400)  # the image is made once, which takes the first of them a while


@pytest.fixture
def tool() -> str:
    tool = Path(sys.executable).parent / "podman-compose"
    if not tool.exists():
        pytest.skip("podman-compose is not installed (`pip install --group operate`)")
    return str(tool)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    with open_broker(tmp_path) as port:
        yield port


def test_a_day_of_the_container(podman: Podman, tool: str, broker: int, tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(_of_here(f"mqtt://greenhouse@127.0.0.1:{broker}"))
    (tmp_path / "broker-password").write_text(PASSWORD)
    compose = (tool, "--file", str(file), "--project-name", NAME)
    with open_ear(broker) as ear:
        try:
            podman.run(*compose, "--in-pod", "false", "up", "--detach", "--no-build")
            ear.until_health(b"Up")
            ear.until_more()
            status = podman("exec", NAME, "cat", "/proc/1/status", "/proc/mounts")
            assert "CapEff:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
            assert "Uid:\t10001" in status
            assert " / overlay ro," in status
            assert "size=131072k" in next(line for line in status.splitlines() if " /dev/shm " in line)
            podman("exec", NAME, "pkill", "-KILL", "-f", "gateway")
            ear.order("after the gateway was killed")
            ear.until_done("after the gateway was killed by 1")
            podman("healthcheck", "run", NAME)
            podman.run(*compose, "stop")
            log = podman.attempt("podman", "logs", NAME)
            sent = int((log.stdout + log.stderr).rpartition("sent ")[2].split()[0].rstrip('",}'))
            ear.until(lambda: ear.numbers[-1] == sent - 1, f"the last of {sent} numbers came")
            assert list(dict.fromkeys(ear.numbers)) == list(range(sent))
            assert podman("inspect", "--format", "{{.State.ExitCode}}", NAME) == "0"
        finally:
            podman.attempt(*compose, "down", "--volumes", "--timeout", "0")


def _of_here(broker: str) -> str:
    """Return the file with this broker, on this machine's network, and with the image that is there."""
    text = COMPOSE.read_text()
    assert _BROKER in text
    document = yaml.safe_load(text.replace(_BROKER, broker))
    service = document["services"]["greenhouse"]
    del service["build"]
    service.update(image=IMAGE, network_mode="host", container_name=NAME)
    return yaml.safe_dump(document)
