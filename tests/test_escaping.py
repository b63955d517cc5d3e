from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.escaping import escaped


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plant/kiln 7/°C/日本", "plant/kiln 7/°C/日本"),
        ("", ""),
        ("x\n12:00:00 CRITICAL forged", "x\\n12:00:00 CRITICAL forged"),
        ("\x1b[2J\x9b31m\x07\r\t\x00\x7f", "\\x1b[2J\\x9b31m\\x07\\r\\t\\x00\\x7f"),
        ("a\u2028b\u202ec\u200b", "a\\u2028b\\u202ec\\u200b"),  # a line separator, a direction, an invisible space
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert escaped(text) == shown


@pytest.mark.parametrize(("length", "shown"), [(200, 200), (201, 203), (10**6, 203)])
def test_it_is_bounded(length: int, shown: int) -> None:
    assert len(escaped("x" * length)) == shown
    assert escaped("x" * length, limit=10) == "x" * 10 + "..."


@given(st.text(alphabet=st.characters(), max_size=300))
def test_it_is_one_line_that_any_stream_takes(text: str) -> None:
    shown = escaped(text)
    assert shown.isprintable()
    assert len(shown.encode()) <= 10 * 200 + 3
