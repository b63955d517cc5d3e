"""The halves are children: they import nothing of a supervisor's code."""

from __future__ import annotations

import subprocess
import sys

HALVES = """
import sys
import taktora_trio.processes.child.zygote, taktora_trio.runners.command.gateway, taktora_trio.runners.command.half
import taktora_trio.runners.command.plugin
print([name for name in sys.modules if name.startswith("taktora_trio.processes.parent")])
"""


def test_a_half_imports_nothing_of_a_supervisors() -> None:
    done = subprocess.run([sys.executable, "-c", HALVES], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
