"""The limit of each wait in the tests."""

__all__ = ["PATIENCE"]

PATIENCE = 40.0
"""Seconds until something that hangs fails its test. A start takes 0.5 on an idle machine and 11 on a very busy one."""
