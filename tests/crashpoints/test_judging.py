"""The judge finds what it is to find."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashpoints.case import Case
from tests.crashpoints.judging import judge

JOURNAL = """\
1.0 sending 1 7 0
1.1 sent 1 7 0
1.2 acknowledged 1 7 0
1.3 sending 1 7 1
1.4 sent 1 7 1
1.5 sending 1 7 2
2.0 heard 1 0 0
2.1 heard 1 1 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "journal").write_text(JOURNAL)
    (tmp_path / "reached").write_text("1.35 3 a.py:1:1\n1.45 4 a.py:2:1\n")
    return tmp_path


CASE = Case(victim="gateway", session="aiomqtt")


def test_all_is_well(folder: Path) -> None:
    assert judge(CASE, folder, {1: [b"7:0", b"7:1", b"7:1"]}, 2).faults == []


@pytest.mark.parametrize("torn", ["9\n", "9.9 sent\n", "9.9 sent 1 7\n", "9.9 sent 1 7 5"])
def test_a_line_that_is_not_whole_says_nothing(folder: Path, torn: str) -> None:
    """Its writer is just writing it, or was killed within it."""
    (folder / "journal").write_text(JOURNAL + torn)
    result = judge(CASE, folder, {1: [b"7:0", b"7:1"]}, 2)
    assert (result.sent, result.faults) == (2, [])


@pytest.mark.parametrize(
    ("came", "fault"),
    [
        ([b"7:0"], "out, QoS 1, lost: 7:1 (1); near a.py:1:1, a.py:2:1"),
        ([b"7:1", b"7:0"], "out, QoS 1, behind a newer one: 7:0 (1); near a.py:1:1, a.py:2:1"),
        ([b"7:0", b"7:1", b"7:3"], "out, QoS 1, never sent: 7:3 (1); near a.py:1:1, a.py:2:1"),
    ],
)
def test_outbound(folder: Path, came: list[bytes], fault: str) -> None:
    assert [str(found) for found in judge(CASE, folder, {1: came}, 2).faults] == [fault]


def test_where_the_apps_memory_is_gone_a_receipt_is_what_is_promised(folder: Path) -> None:
    case = Case(victim="process", session="aiomqtt")
    assert judge(case, folder, {1: [b"7:0"]}, 2).faults == []
    assert [fault.what for fault in judge(case, folder, {1: []}, 2).faults] == ["out, QoS 1, lost"]


@pytest.mark.parametrize(
    ("more", "published", "what"),
    [
        ("", 3, "in, QoS 1, lost"),
        ("3.0 heard 1 0 0\n", 2, "in, QoS 1, came again and does not say so"),
        ("3.0 heard 1 3 0\n3.1 heard 1 2 0\n", 4, "in, QoS 1, behind a newer one"),
        ("3.0 heard 1 0 1\n", 2, None),
    ],
)
def test_inbound(folder: Path, more: str, published: int, what: str | None) -> None:
    with (folder / "journal").open("a") as journal:
        journal.write(more)
    faults = judge(CASE, folder, {1: [b"7:0", b"7:1"]}, published).faults
    assert [fault.what for fault in faults] == ([what] if what else [])
