"""The page about configuration says what the definitions say."""

from __future__ import annotations

from tests.configuration_page import PAGE, with_reference


def test_the_reference_is_made_from_the_definitions() -> None:
    text = PAGE.read_text()
    assert with_reference(text) == text, "run `python -m tests.configuration_page`"
    assert text.count("\n| `") > 50
