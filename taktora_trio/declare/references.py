"""References within a document: `{"$ref": "#/components/schemas/Reading"}`."""

from __future__ import annotations

from typing import Any

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped

__all__ = ["mapping", "resolved"]

_LONGEST = 32  # references in a row


def mapping(value: object) -> dict[str, Any]:
    """Return a value that should be an object; an empty one for any other."""
    return value if isinstance(value, dict) else {}


def resolved(document: dict[str, Any], value: Any) -> Any:
    """Return what a value stands for, if it is a reference, and else itself.

    Raises `ConfigError` for a reference that leads nowhere, or out of the document.
    """
    for _ in range(_LONGEST):
        target = value.get("$ref") if isinstance(value, dict) else None
        if not isinstance(target, str):
            return value
        value = _found(document, target)
    raise ConfigError(f"the reference {escaped(repr(target), 200)} leads to itself")


def _found(document: dict[str, Any], target: str) -> Any:
    if not target.startswith("#"):
        raise ConfigError(
            f"the reference {escaped(repr(target), 200)} leads out of the document: bundle them (asyncapi bundle)"
        )
    value: Any = document
    for part in target.removeprefix("#").split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(value, dict) or part not in value:
            raise ConfigError(f"the reference {escaped(repr(target), 200)} leads to nothing in the document")
        value = value[part]
    return value
