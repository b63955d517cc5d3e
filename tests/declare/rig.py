"""Runs a command in this process, as a user would by its name, and makes documents."""

from __future__ import annotations

from typing import Any

import pytest

from taktora_trio import Connector, cli
from taktora_trio.declare.document import Info, make_document
from taktora_trio.runners.this_process.outcome import call

__all__ = ["document_of", "perform"]


def perform(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return the exit code, standard output and standard error."""
    capsys.readouterr()
    code = call(lambda: cli.parse(arguments)())
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def document_of(*connectors: Connector) -> dict[str, Any]:
    return make_document(Info("test", "1"), connectors, {})
