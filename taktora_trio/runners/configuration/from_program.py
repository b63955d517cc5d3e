"""Settings as a program gives them, instead of an operator at the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypeAlias

from taktora_trio.runners.options import TypedSettings

__all__ = ["ProgramSettings", "as_typed"]

ProgramSetting: TypeAlias = "str | float | os.PathLike[str]"
ProgramSettings: TypeAlias = Mapping[str, "ProgramSetting | Mapping[str, ProgramSetting]"]
"""Settings as a program gives them: `{"broker": URL}` for all connectors, `{"broker": {NAME: URL}}` for some; any key
of a file too, as `{"app.zone": "north"}`."""


def as_typed(settings: ProgramSettings) -> TypedSettings:
    """Return a program's settings as they would be typed at the command line."""
    options: list[tuple[str, str | None]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            options += [(name, f"{connector}={_as_text(own)}") for connector, own in value.items()]
        else:
            options.append((name, _as_text(value)))
    return tuple(options)


def _as_text(value: ProgramSetting) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else os.fspath(value)
