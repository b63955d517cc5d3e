from __future__ import annotations

from pathlib import Path

import pytest

from tests.runners.configuration.declared import Operator


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    return Operator(tmp_path, monkeypatch)
