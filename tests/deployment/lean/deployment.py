"""What both halves share: the channels, the connector, and the app's name."""

from __future__ import annotations

import atexit
import json
import os
import sys
from pathlib import Path

from taktora_trio import Deployment, MqttConnector, MqttRouting, Outbound

DONE = Outbound("done", str, MqttRouting("test/lean", qos=1))
RECORD = "TAKTORA_TEST_RECORD"  # names a folder, into which each process writes which modules it has


def _record() -> None:
    words = sys.orig_argv[sys.orig_argv.index("-m") + 1 :]
    half = words[1] if words[1] in ("plugin", "gateway") else words[0].rpartition(".")[2]
    Path(os.environ[RECORD], half).write_text(json.dumps(sorted(sys.modules)))


if RECORD in os.environ:
    atexit.register(_record)


def _declare(app: str) -> Deployment:
    return Deployment("lean", f"tests.deployment.lean.{app}", [MqttConnector([DONE])])


needs_too_much = _declare("app:main")
no_module = _declare("ap:main")
no_function = _declare("good_app:man")
good = _declare("good_app:main")
