"""The app's own settings: an object of the class that it declares, made of what an operator has given.

The class is an attrs class, a dataclass or a msgspec struct. msgspec turns values into the types of its fields; the
class itself has the defaults and the validators.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_type_hints

import attrs
import msgspec

from taktora_trio.errors import ConfigError, summary
from taktora_trio.escaping import escaped
from taktora_trio.runners.configuration.fields import spelled
from taktora_trio.runners.configuration.given import Given, Source
from taktora_trio.runners.configuration.keys import closest, variable_for

__all__ = ["NOTHING", "AppField", "app_fields", "app_settings", "is_secret"]

_SECRET = ("password", "passwd", "secret", "token", "key", "credential", "credentials")


class AppField(msgspec.Struct, frozen=True):
    """A field of the app's settings that has no fields of its own."""

    owner: type
    """The class that it is a field of."""
    path: tuple[str, ...]
    hint: Any
    default: Any
    """`NOTHING` where it has to be given."""
    is_shown: bool
    """False for a secret."""

    @property
    def key(self) -> str:
        """The key in a file, such as `app.limits.high`."""
        return ".".join(("app", *self.path))


NOTHING = object()


def app_fields(kind: type, before: tuple[str, ...] = ()) -> Iterator[AppField]:
    """Yield the fields of a class of settings, and of the classes of its fields. Raises `ConfigError`."""
    try:
        hints = get_type_hints(kind)
    except Exception as exc:  # noqa: BLE001 - names that there are for a type checker alone
        raise ConfigError(f"the types of {kind.__name__} can't be read: {summary(exc)}") from None
    for name, default, shown in _fields(kind):
        path = (*before, name)
        if _has_fields(hints[name]) and path.count(name) < 8:
            yield from app_fields(hints[name], path)
        else:
            yield AppField(kind, path, hints[name], default, shown and not is_secret(name))


def is_secret(name: str) -> bool:
    """Return whether a field is a secret by its name, such as `api_token`."""
    return name.lower().replace("-", "_").rpartition("_")[2] in _SECRET


def app_settings(kind: type, given: Sequence[Given], declared: Any = None) -> Any:
    """Return the settings; what is not given is as `declared`, or else as the class has it.

    Raises `ConfigError`, with the place, for what the class does not know or does not take.
    """
    fields = {field.path: field for field in app_fields(kind)}
    winners: dict[tuple[str, ...], Given] = {}
    for one in sorted(given, key=lambda one: one.source):
        for path, leaf in _leaves(one, fields):
            before = winners.get(path)
            if before is not None and before.source is leaf.source is not Source.FLAG:
                raise leaf.refused(f"it is given twice, and first by {before.origin}")
            if before is not None and before.source is leaf.source:
                raise ConfigError(f"{leaf.origin} was given twice: give it once")
            winners[path] = leaf
    values = {path: _converted(fields[path], one) for path, one in winners.items()}
    return _made(kind, (), values, winners, declared)


def _leaves(one: Given, fields: Mapping[tuple[str, ...], AppField]) -> Iterator[tuple[tuple[str, ...], Given]]:
    """Yield what was given by the fields that it is for."""
    name = one.key.removeprefix("app.")
    if one.source is Source.ENVIRONMENT:
        meant = [path for path, field in fields.items() if variable_for(field.key) == name]
        if len(meant) != 1:
            listed = [variable_for(field.key) for field in fields.values()]
            raise ConfigError(f"{name}: {_unknown(name, listed) if not meant else 'it stands for several settings'}")
        yield meant[0], msgspec.structs.replace(one, key=fields[meant[0]].key)
        return
    yield from _within(one, tuple(name.split(".")) if one.source is Source.FLAG else (name,), one.value, fields)


def _within(
    one: Given, path: tuple[str, ...], value: Any, fields: Mapping[tuple[str, ...], AppField]
) -> Iterator[tuple[tuple[str, ...], Given]]:
    key = ".".join(("app", *path))
    one = msgspec.structs.replace(one, key=key, origin=one.places.get(key, one.origin))
    found = next((known for known in fields if _alike(known, path)), None)
    if found is not None:
        yield found, msgspec.structs.replace(one, value=value)
    elif not any(_alike(known[: len(path)], path) for known in fields):
        mine = ".".join(path)
        error = _unknown(mine, [".".join(known) for known in fields])
        raise one.refused(error)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _within(one, (*path, name), inner, fields)
    else:
        inside = ", ".join(".".join(known) for known in fields if _alike(known[: len(path)], path))
        raise one.refused(f"it is a table, with {inside}")


def _alike(known: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return tuple(map(spelled, known)) == tuple(map(spelled, path))


def _unknown(name: str, known: Sequence[str]) -> str:
    close = closest(name, known, 0.6)
    listed = ", ".join(known) or "none"
    return f"the app has no such setting; {f'is {close} meant?' if close else f'it has {listed}'}"


def _converted(field: AppField, one: Given) -> Any:
    value, hint = one.value, field.hint
    try:
        if one.source is Source.FILE:
            return msgspec.convert(_based(value, hint, one.folder), hint, dec_hook=_decode)
        try:
            return msgspec.convert(value, hint, strict=False, dec_hook=_decode)
        except msgspec.ValidationError:
            if value[:1] in ("[", "{"):
                return msgspec.convert(msgspec.json.decode(value), hint, strict=False, dec_hook=_decode)
            if getattr(hint, "__origin__", hint) not in (list, tuple, set, frozenset):
                raise
            return msgspec.convert([part.strip() for part in value.split(",")], hint, strict=False, dec_hook=_decode)
    except (msgspec.MsgspecError, ValueError, TypeError) as exc:
        raise one.refused(escaped(_reason(exc, field))) from None


def _reason(exc: Exception, field: AppField) -> str:
    text = str(exc) if field.is_shown else f"it is no {getattr(field.hint, '__name__', field.hint)}"
    return f"{text[:1].lower()}{text[1:]}".replace("`", "")


def _based(value: Any, hint: Any, folder: Path | None) -> Any:
    """Return a path from a file as it is meant there: from the file's folder."""
    if folder is not None and isinstance(value, str) and (hint is Path or hint == Path | None):
        return str(folder / value)
    return value


def _decode(kind: type, value: Any) -> Any:
    if issubclass(kind, Path) and isinstance(value, str):
        return kind(value)
    raise ValueError(f"a {kind.__name__} can't be given by an operator: use a type that msgspec knows")


def _made(
    kind: type,
    before: tuple[str, ...],
    values: Mapping[tuple[str, ...], Any],
    winners: Mapping[tuple[str, ...], Given],
    declared: Any,
) -> Any:
    arguments: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for name, default, _ in _fields(kind):
        path = (*before, name)
        own = None if declared is None else getattr(declared, name)
        if path in values:
            arguments[_argument(kind, name)] = values[path]
        elif any(key[: len(path)] == path for key in values):
            base = own if own is not None or default is NOTHING or callable(default) else default
            base = base if isinstance(base, hints[name]) else None
            arguments[_argument(kind, name)] = _made(hints[name], path, values, winners, base)
        elif declared is not None:
            arguments[_argument(kind, name)] = own
        elif default is NOTHING and _has_fields(hints[name]):
            arguments[_argument(kind, name)] = _made(hints[name], path, values, winners, None)
        elif default is NOTHING:
            key = ".".join(("app", *path))
            raise ConfigError(
                f"the app needs the setting {'.'.join(path)}: give {key} in a file, {variable_for(key)}, or --{key}"
            )
    try:
        return kind(**arguments)
    except Exception as exc:  # noqa: BLE001 - whatever its validators raise
        mine = {path: one for path, one in winners.items() if path[: len(before)] == before}
        raise _blamed(kind, before, mine, exc) from None


def _blamed(
    kind: type, before: tuple[str, ...], winners: Mapping[tuple[str, ...], Given], exc: Exception
) -> ConfigError:
    """Return the error with the place of the value that the class does not take: the one whose name the error has."""
    secret = {field.path for field in app_fields(kind, before) if not field.is_shown}
    named = [path for path in winners if path[-1] in str(exc)]
    chosen = named if len(named) == 1 else list(winners) if len(winners) == 1 else []
    text = f"{type(exc).__name__} in {kind.__name__}" if secret & set(winners) else escaped(_text(exc))
    if chosen:
        return winners[chosen[0]].refused(text)
    places = ", ".join(one.origin for one in winners.values())
    return ConfigError(f"the app's settings ({places}): {text}" if places else f"the app's settings: {text}")


def _text(exc: Exception) -> str:
    return str(exc.args[0]) if exc.args and isinstance(exc.args[0], str) else summary(exc)


def _has_fields(hint: Any) -> bool:
    return isinstance(hint, type) and (
        attrs.has(hint) or hasattr(hint, "__dataclass_fields__") or issubclass(hint, msgspec.Struct)
    )


def _argument(kind: type, name: str) -> str:
    if attrs.has(kind):
        return getattr(attrs.fields(kind), name).alias or name
    return name


def _fields(kind: type) -> Iterator[tuple[str, Any, bool]]:
    """Yield the name of each field that is an argument, its default, or what makes that, and whether it is shown."""
    if issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory
            yield field.name, NOTHING if default is msgspec.NODEFAULT else default, True
    elif attrs.has(kind):
        for one in attrs.fields(kind):
            if one.init:
                default = getattr(one.default, "factory", one.default)
                yield one.name, NOTHING if default is attrs.NOTHING else default, bool(one.repr)
    else:
        import dataclasses

        for own in dataclasses.fields(cast(Any, kind)):
            if own.init:
                default = own.default if own.default is not dataclasses.MISSING else own.default_factory
                yield own.name, NOTHING if default is dataclasses.MISSING else default, own.repr
