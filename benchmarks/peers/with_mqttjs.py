"""MQTT.js under Node: becomes `node with_mqttjs.js`, with the precise timers that its thread of a schedule needs."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

from benchmarks.children import ROOT

__all__ = ["MODULES"]

MODULES = ROOT / ".venv" / "node" / "node_modules"
"""Where `make .venv/node` puts MQTT.js."""
_PR_SET_TIMERSLACK = 29


def main() -> None:
    """Does not return."""
    node = shutil.which("node")
    if node is None:
        raise SystemExit("node is not installed: apt-get install nodejs")
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)  # a timerfd, which the others have, is as precise; Node has none
    script = str(Path(__file__).with_suffix(".js"))
    os.execve(node, [node, script], {**os.environ, "NODE_PATH": str(MODULES)})


if __name__ == "__main__":
    main()
