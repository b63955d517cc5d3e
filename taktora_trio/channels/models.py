"""Pydantic models as messages, or within them.

Pydantic is never imported here: whoever declares a channel of a model has imported it.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from taktora_trio.errors import ConfigError

__all__ = ["is_model", "read_model", "write_model"]

_ERRORS = 5  # of one message that are shown


def is_model(kind: object) -> bool:
    """Return whether it is a class of pydantic models. Raises `ConfigError` for one of pydantic 1."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not isinstance(kind, type) or not issubclass(kind, pydantic.BaseModel):
        return False
    if not hasattr(kind, "model_validate_json"):
        raise ConfigError(f"{kind.__name__} is a model of pydantic 1: use pydantic 2 (the extra `pydantic`)")
    return True


def write_model(value: Any) -> Any:
    """Return what a model is written as: a hook of msgspec's encoders. Raises `NotImplementedError` for all else."""
    if not is_model(type(value)):
        raise NotImplementedError(f"a {type(value).__name__} can't be encoded")
    return value.model_dump(mode="json", by_alias=True)


def read_model(kind: Any, content: Any) -> Any:
    """Return the model that was written so: a hook of msgspec's decoders. Raises `ValueError`, in one line.

    Pydantic is given JSON, of which it takes a text for a time, say, even where it is strict.
    """
    if not is_model(kind):
        raise NotImplementedError(f"a {kind.__name__} can't be decoded")
    text = msgspec.json.encode(content)
    try:
        return kind.model_validate_json(text)
    except sys.modules["pydantic"].ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        found = [": ".join(filter(None, (".".join(map(str, one["loc"])), one["msg"]))) for one in errors[:_ERRORS]]
        raise ValueError("; ".join([*found, "..."] if len(errors) > _ERRORS else found)) from exc
