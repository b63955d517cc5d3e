"""What stands in a file of settings, as values that were given: each key is known, and each value of its type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.settings import Setting
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.configuration.fields import spelled, text_of
from taktora_trio.runners.configuration.given import Given, GivenSetting, Source
from taktora_trio.runners.configuration.keys import (
    FENCES,
    OTHER_NAMES,
    POLICIES,
    TABLES,
    closest,
    key_of,
    keys,
    setting_of,
    settings_of,
    stands_for_none,
)
from taktora_trio.runners.configuration.toml_file import TomlFile
from taktora_trio.runners.secrets import carries_secret

__all__ = ["from_file", "unknown_key"]


def from_file(file: TomlFile, connectors: Sequence[Connector]) -> Iterator[Given | GivenSetting]:
    """Yield what the file says, key by key. Raises `ConfigError` with the line and the key."""
    seen: dict[str, str] = {}
    for key, value in _flat(file.table):
        if key[0] == "app":
            if not isinstance(value, Mapping):
                raise _error(file, key, "it must be a table: write [app]")
            for name, own in value.items():
                places = dict(_places(file, ("app", name), own))
                yield Given(f"app.{name}", own, Source.FILE, file.place("app", name), file.folder, places)
        elif key[0] == "connector":
            if not isinstance(value, Mapping):
                raise _error(file, key, "it must be a table: write [connector.NAME]")
            yield from _of_connectors(file, value, connectors)
        else:
            name = ".".join(map(spelled, key))
            name = OTHER_NAMES.get(name, name)
            known = key_of(name)
            if name in TABLES:
                raise _error(file, key, f"it must be a table: write [{name}]")
            if known is None:
                raise _error(file, key, unknown_key(name, [*keys(), *TABLES]))
            if name in seen:
                raise _error(file, key, f"it stands there twice, and first as {seen[name]}")
            seen[name] = ".".join(key)
            try:
                text = text_of(name, "off" if value is False and name.endswith(".watchdog") else value, known.hint)
            except ConfigError as exc:
                raise _error(file, key, _without(name, exc)) from None
            yield Given(name, text, Source.FILE, file.place(*key), file.folder)


def unknown_key(key: str, known: Sequence[str]) -> str:
    """Return that there is no such key, with the one that was probably meant."""
    close = closest(key, known, 0.6)
    return f"there is no such key; {f'is {close} meant?' if close else 'docs/configuration.md lists them'}"


def _flat(table: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each key with its value. The tables of the app and of connectors are one value each."""
    for name, value in table.items():
        key = (*before, name)
        if isinstance(value, Mapping) and key not in (("app",), ("connector",)):
            inner = [*(f"policy.{half}" for half in POLICIES), *(f"fence.{half}" for half in FENCES)]
            if not value and ".".join(map(spelled, key)) not in (*TABLES, *inner):
                yield key, value  # an empty table of a wrong name
            yield from _flat(value, key)
        else:
            yield key, value


def _places(file: TomlFile, key: tuple[str, ...], value: object) -> Iterator[tuple[str, str]]:
    """Yield the parts of a table of the app's by their keys, each with its place."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield ".".join((*key, name)), file.place(*key, name)
            yield from _places(file, (*key, name), inner)


def _of_connectors(file: TomlFile, table: Mapping[str, Any], connectors: Sequence[Connector]) -> Iterator[GivenSetting]:
    for name, value in table.items():
        own = next((one for one in connectors if one.name == name), None)
        if own is not None and isinstance(value, Mapping):
            yield from _settings(file, ("connector", name), value, [own], name)
        elif isinstance(value, Mapping) and not any(setting_of(one, spelled(name)) for one in connectors):
            names = [one.name for one in connectors]
            close = closest(name, names, 0.6)
            meant = f"is {close} meant?" if close else f"there is {', '.join(names)}"
            raise _error(file, ("connector", name), f"there is no connector {escaped(name)!r}; {meant}")
        else:
            yield from _settings(file, ("connector",), {name: value}, connectors, None)


def _settings(
    file: TomlFile, before: tuple[str, ...], table: Mapping[str, Any], users: Sequence[Connector], only: str | None
) -> Iterator[GivenSetting]:
    seen: dict[str, str] = {}
    for name, value in table.items():
        key, wanted = (*before, name), spelled(name)
        setting = next(filter(None, (setting_of(one, wanted) for one in users)), None)
        literal = next(filter(None, (setting_of(one, f"{wanted}-file") for one in users)), None)
        if setting is None and literal is not None and literal.kind == "secret":
            setting = literal
            text, secret = "", _secret(file, key, value)
        elif setting is None:
            known = [setting for one in users for setting in settings_of(one)]
            raise _error(file, key, unknown_key(wanted, known))
        else:
            text, secret = _text(file, key, setting, value), None
        if setting.name in seen:
            raise _error(file, key, f"it stands there twice, and first as {seen[setting.name]}")
        seen[setting.name] = name
        yield GivenSetting(setting, only, text, Source.FILE, file.place(*key), secret)


def _text(file: TomlFile, key: tuple[str, ...], setting: Setting, value: object) -> str:
    name = setting.name
    if setting.repeatable and isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        texts = value
    else:
        try:
            texts = [text_of(name, value, setting.hint or str)]
        except ConfigError as exc:
            raise _error(file, key, _without(name, exc)) from None
    for index, text in enumerate(texts):
        if setting.kind == "url" and text[:1] == "@":
            texts[index] = f"@{file.folder / text[1:]}"
        elif setting.kind in ("path", "secret") and text and not stands_for_none(setting, text):
            texts[index] = str(file.folder / text)
        elif carries_secret(text) and not file.is_private:
            raise _error(
                file, key, f"there is a secret in it, and others can read the file: chmod 600 {escaped(str(file.path))}"
            )
    return ",".join(texts)


def _secret(file: TomlFile, key: tuple[str, ...], value: object) -> bytes:
    if not isinstance(value, str):
        raise _error(file, key, "it must be a text")
    if not file.is_private:
        raise _error(
            file,
            key,
            f"others can read the file: chmod 600 {escaped(str(file.path))}, or name a file that has the password by"
            f" {spelled(key[-1])}-file",
        )
    return value.encode()


def _without(name: str, exc: ConfigError) -> str:
    return str(exc).removeprefix(f"{name} is ").removeprefix(f"{name}.")


def _error(file: TomlFile, key: Sequence[str], message: str) -> ConfigError:
    return ConfigError(f"{file.place(*key)}: {'.'.join(map(escaped, key))}: {message}")
