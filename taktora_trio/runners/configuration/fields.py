"""Fields of declared options (a connector's, a store's), as an operator writes them: by name, as text or in TOML.

Nothing is written down twice: which fields there are, their types and their help come from the class itself.
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.supervision.backoff import Backoff

__all__ = [
    "NOTHING",
    "changed",
    "docs_of",
    "fields_of",
    "from_text",
    "is_nothing",
    "is_path",
    "kind_of",
    "spelled",
    "text_of",
]

NOTHING = ("none", "off")
"""The words for a field that may be `None`."""
_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_NUMBERS = {int: "whole number", float: "number"}
_TOML = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a table",
}

T = TypeVar("T")


def spelled(name: str) -> str:
    """Return a name as it is written in a file or at the command line: `session-expiry`."""
    return name.replace("_", "-")


@cache
def fields_of(kind: type) -> Mapping[str, Any]:
    """Return the types of those fields of an attrs class that can be written as text, by the field's name."""
    try:
        hints = get_type_hints(kind)
    except Exception:  # noqa: BLE001 - a class of a user's, with names that there are for a type checker alone
        return {}
    return {field.name: hints[field.name] for field in attrs.fields(kind) if _is_plain(hints[field.name])}


def from_text(name: str, text: str, hint: Any) -> Any:
    """Return the value of this type that the text stands for. Raises `ConfigError`, naming what it is for."""
    inner, may_be_none = _without_none(hint)
    if is_nothing(text, hint):
        return None
    if inner is bool:
        if text.lower() in (*_YES, *_NO):
            return text.lower() in _YES
        raise ConfigError(f"{name} is {_shown(text)}; use true or false")
    if inner in _NUMBERS:
        try:
            return inner(text.replace("_", "") if inner is int else text)
        except ValueError:
            none = ", or none" if may_be_none else ""
            raise ConfigError(f"{name} is {_shown(text)}; it must be a {_NUMBERS[inner]}{none}") from None
    if get_origin(inner) is Literal and text not in get_args(inner):
        *others, last = map(str, get_args(inner))
        raise ConfigError(f"{name} is {_shown(text)}; use {', '.join(others)} or {last}")
    if inner is Path and (not text or "\0" in text):
        raise ConfigError(f"{name} is {_shown(text)}, and no path of a file")
    if inner is Backoff:
        return _backoff(name, text)
    if get_origin(inner) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return Path(text) if inner is Path else text


def text_of(name: str, value: object, hint: Any) -> str:
    """Return the text for a value of a TOML file. Raises `ConfigError` where it is of the wrong type."""
    inner, _ = _without_none(hint)
    if isinstance(value, str) and is_nothing(value, hint):
        return value
    origin = get_origin(inner)
    if origin is tuple and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ",".join(value)
    if inner is Backoff and isinstance(value, dict):
        return ",".join(f"{key}={text_of(f'{name}.{key}', number, float)}" for key, number in value.items())
    wanted = {tuple: list, Literal: str, None: inner}.get(origin, str)
    wanted = {Path: str, Backoff: dict}.get(wanted, wanted)
    fits = isinstance(value, int | float if wanted is float else wanted)
    if not fits or (isinstance(value, bool) and wanted is not bool) or wanted in (list, dict):
        hint_at_quotes = f': write "{value}"' if wanted is str and type(value) in (int, float) else ""
        raise ConfigError(f"{name} is {_typed(value)}; it must be {_TOML[wanted]}{hint_at_quotes}")
    return str(value).lower() if isinstance(value, bool) else str(value)


def changed(declared: T, texts: Mapping[str, str]) -> T:
    """Return the attrs object with these fields changed. Raises `ConfigError`."""
    kind: Any = type(declared)
    hints = fields_of(kind)
    values: dict[str, Any] = {}
    for field in attrs.fields(kind):
        if field.name in texts:
            value = from_text(spelled(field.name), texts[field.name], hints[field.name])
            if isinstance(value, dict):
                value = attrs.evolve(getattr(declared, field.name), **value)
            values[field.alias or field.name] = value
    return cast(T, attrs.evolve(cast(Any, declared), **values)) if values else declared


def is_path(hint: Any) -> bool:
    """Return whether a field of this type is a path."""
    return _without_none(hint)[0] is Path


def is_nothing(text: str, hint: Any) -> bool:
    """Return whether a text stands for `None` in a field of this type."""
    inner, may_be_none = _without_none(hint)
    return may_be_none and text.lower() in (NOTHING[:1] if inner is bool else NOTHING)


def kind_of(hint: Any) -> str:
    """Return a type as a reference shows it: ``number, or `none` ``."""
    inner, may_be_none = _without_none(hint)
    if get_origin(inner) is Literal:
        shown = ", ".join(f"`{one}`" for one in get_args(inner))
    else:
        shown = {bool: "`true` or `false`", Path: "path", str: "text", Backoff: "table: `initial`, `maximum`, ..."}.get(
            inner, _NUMBERS.get(inner, "list of texts")
        )
    return f"{shown}, or `none`" if may_be_none else shown


def docs_of(kind: type) -> dict[str, str]:
    """Return the docstrings of a class's fields, of its bases' too, with values as they are written in TOML.

    Reads the source: for help and references.
    """
    import ast
    import inspect
    import re
    import textwrap

    docs: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]):
        try:
            [tree] = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        except (OSError, TypeError, SyntaxError, ValueError):
            continue
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for field, after in itertools.pairwise(body):
            match field, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs[name] = re.sub("`(None|True|False)`", lambda word: word[0].lower(), " ".join(text.split()))
    return docs


def _backoff(name: str, text: str) -> dict[str, float]:
    names = [field.name for field in attrs.fields(Backoff)]
    found: dict[str, float] = {}
    for part in text.split(","):
        field, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or field not in names:
            raise ConfigError(f"{name} is {_shown(text)}; write for example initial=1,maximum=30 ({', '.join(names)})")
        found[field] = from_text(f"{name} {field}", value, float)
    return found


def _is_plain(hint: Any) -> bool:
    inner, _ = _without_none(hint)
    return inner in (bool, int, float, str, Path, Backoff) or (
        (get_origin(inner) is Literal and all(isinstance(one, str) for one in get_args(inner)))
        or (get_origin(inner) is tuple and get_args(inner) == (str, ...))
    )


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType):
        [*others] = [one for one in get_args(hint) if one is not type(None)]
        return (others[0] if len(others) == 1 else hint), type(None) in get_args(hint)
    return hint, False


def _typed(value: object) -> str:
    return _TOML.get(type(value), f"a {type(value).__name__}")


def _shown(text: str) -> str:
    return escaped(repr(text))
