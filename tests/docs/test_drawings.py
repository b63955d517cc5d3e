"""The drawings of both shapes are made of the text beside them, as it is now."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.command import ROOT

SOURCES = sorted((ROOT / "docs" / "figures").glob("*.dot"))


def test_there_is_one_of_each_shape() -> None:
    assert [source.stem for source in SOURCES] == ["in-process", "split"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_drawing_is_up_to_date(source: Path) -> None:
    drawn_of = source.with_suffix(".svg").read_text().splitlines()[-1]
    assert drawn_of == f"<!-- of {hashlib.sha256(source.read_bytes()).hexdigest()[:16]} -->", "run `make figures`"
