"""Tests of apps, and of connectors.

For the author of an app: `open_app` runs a deployment with everything outside it in the test's hands.

For the author of a connector: `conformance` is the suite, and `rig` the peer that it runs against. The suite needs
pytest and pytest-trio: `pip install taktora-trio[testing]`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taktora_trio.testing.app import AppUnderTest as AppUnderTest
    from taktora_trio.testing.app import NothingCame as NothingCame
    from taktora_trio.testing.app import OpenApp as OpenApp
    from taktora_trio.testing.app import open_app as open_app
    from taktora_trio.testing.backend import Shape as Shape
    from taktora_trio.testing.journal import Sent as Sent
    from taktora_trio.testing.split_run import AppFailed as AppFailed

_MODULES = {
    "AppFailed": "split_run",
    "AppUnderTest": "app",
    "NothingCame": "app",
    "OpenApp": "app",
    "Sent": "journal",
    "Shape": "backend",
    "open_app": "app",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: who tests a connector needs no app."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value
