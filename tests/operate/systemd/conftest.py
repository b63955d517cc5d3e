"""One machine for all tests here. Each begins with its units stopped, and fails if something is left of them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operate.systemd.machine import UNITS, Machine, Received, open_machine


@pytest.fixture(scope="session")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with open_machine(tmp_path_factory.mktemp("machine")) as machine:
        machine.systemctl("is-system-running", "--wait")
        machine.at_boot = machine.systemctl("status", "multi-user.target", "greenhouse-gateway")
        yield machine


@pytest.fixture
def machine(booted: Machine) -> Iterator[Machine]:
    booted.systemctl("stop", "greenhouse-plugin", "greenhouse-gateway", "greenhouse")
    booted.run(
        "rm", "-rf", *(f"/etc/systemd/system/{unit}.service.d" for unit in UNITS), "/opt/greenhouse/taktora.toml"
    )
    booted.systemctl("daemon-reload")
    booted.systemctl("reset-failed")
    yield booted
    booted.systemctl("stop", "greenhouse-plugin", "greenhouse-gateway", "greenhouse")
    assert booted.left() == ([], []), "left behind: processes, or files in shared memory"


@pytest.fixture
def received(machine: Machine, tmp_path: Path) -> Iterator[Received]:
    """What a subscriber gets from now on."""
    path = tmp_path / "received"
    with path.open("wb") as out:
        words = ("mosquitto_sub", "-d", "-h", "127.0.0.1", "-q", "1", "-t", "greenhouse/readings")
        subscriber = subprocess.Popen(machine.command("stdbuf", "-oL", *words), stdout=out)
        try:
            with contextlib.closing(Received(path)) as received:
                received.until_subscribed()
                yield received
        finally:
            subscriber.kill()
            subscriber.wait()
