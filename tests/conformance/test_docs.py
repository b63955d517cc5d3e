"""The page "Write a connector" quotes the example as it is."""

from __future__ import annotations

import re
from pathlib import Path

import taktora_trio
from taktora_trio.testing.rig import LACKS, ConnectorRig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "connectors.md").read_text()
QUOTED = [*sorted((ROOT / "examples" / "line_protocol").glob("*.py")), ROOT / "tests/conformance/test_line_protocol.py"]


def test_each_piece_of_code_stands_in_the_example() -> None:
    sources = [path.read_text() for path in QUOTED]
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) > 5
    for block in blocks:
        for piece in re.split(r"\n\n\n", block):
            assert any(piece.strip("\n") in source for source in sources), f"no such code in the example:\n{piece}"


def test_each_class_and_function_of_the_connector_is_quoted() -> None:
    for name in ("connector.py", "client.py"):
        source = (ROOT / "examples" / "line_protocol" / name).read_text()
        for declared in re.findall(r"^(?:class|def|async def) \w+", source, re.MULTILINE):
            assert f"\n{declared}" in PAGE, f"{declared} of {name} is not on the page"


def test_the_contract_is_complete() -> None:
    for contract in (taktora_trio.Connection, taktora_trio.Client):
        for name in vars(contract):
            if not name.startswith("_"):
                assert re.search(rf"`{name}(\(.*?\))?`", PAGE), f"{contract.__name__}.{name} is not on the page"
    for feature in LACKS:
        assert feature.startswith("has_") or f"`{feature}`" in PAGE
    assert "carries_metadata" in vars(ConnectorRig)
    assert "`carries_metadata`" in PAGE
