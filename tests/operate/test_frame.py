"""`make operate` has these tests, and no other command has them."""

from __future__ import annotations

import pytest


def test_a_test_of_this_folder_is_marked(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("operate") is not None
