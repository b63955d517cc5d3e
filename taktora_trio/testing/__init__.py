"""Tests for the author of a connector: `conformance` is the suite, and `rig` the peer that it runs against.

The suite needs pytest and pytest-trio: `pip install taktora-trio[testing]`.
"""
