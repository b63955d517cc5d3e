"""Imported by the module of a deployment, it has each process of a run write down which modules it has at its end."""

from __future__ import annotations

import atexit
import json
import os
import sys
from pathlib import Path

__all__ = ["RECORD"]

RECORD = "TAKTORA_TEST_RECORD"
"""This variable names the folder for it; without it nothing is written."""


def _record() -> None:
    words = sys.orig_argv[sys.orig_argv.index("-m") + 1 :]
    half = words[1] if words[1] in ("plugin", "gateway") else words[0].rpartition(".")[2]
    Path(os.environ[RECORD], half).write_text(json.dumps(sorted(sys.modules)))


if RECORD in os.environ:
    atexit.register(_record)
