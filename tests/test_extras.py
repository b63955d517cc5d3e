"""A command whose extra is not installed names it in one line. A process of its own, for ours has the libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from taktora_trio import Domain
from taktora_trio.recorder.writing import open_recording
from tests.command import ROOT


def test_a_command_names_the_extra_that_it_lacks(tmp_path: Path, domain: Domain) -> None:
    with open_recording(tmp_path / "r.mcap", {"domain": "test"}):
        pass
    commands = {
        ("replay", str(tmp_path / "r.mcap"), "tests.replay.apps:deployment"): "a recording needs mcap",
        ("endpoint", "--domain", domain.name, "--endpoint", "127.0.0.1:0"): "--endpoint needs h11",
    }
    code = f"""
import sys
sys.modules.update(dict.fromkeys(("mcap", "h11", "prometheus_client")))
from taktora_trio.cli import parse
from taktora_trio.runners.this_process.outcome import call
for command in {list(commands)!r}:
    call(lambda: parse(command)())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stderr.splitlines() == [
        f"taktora-trio: {told}: pip install 'taktora-trio[operate]'" for told in commands.values()
    ]
