"""The manifest and the compose file are what the tools that read them take: each field is known, and of its type."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.operate.containers.manifest import MANIFEST
from tests.operate.containers.test_compose import COMPOSE


@pytest.mark.parametrize("version", ["1.29.0", "1.34.0"])
def test_the_manifest_is_of_kubernetes(version: str) -> None:
    tool = Path(sys.executable).parent / "kubernetes-validate"
    if not tool.exists():
        pytest.skip("kubernetes-validate is not installed (`pip install --group operate`)")
    said = subprocess.run([tool, "--strict", "-k", version, MANIFEST], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
    assert (said.stdout + said.stderr).count("passed for resource") == 4


def test_the_compose_file_is_one() -> None:
    tool = shutil.which("docker-compose")
    if tool is None:
        pytest.skip("docker-compose is not installed")
    said = subprocess.run([tool, "--file", COMPOSE, "config", "--quiet"], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
