"""What was typed, or given by a program, apart from settings of connectors: `--KEY VALUE` for each key of the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.configuration.fields import spelled
from taktora_trio.runners.configuration.given import Given, Source, taken_over
from taktora_trio.runners.configuration.keys import POLICIES, SHORT, closest, key_of, keys
from taktora_trio.runners.options import TypedSettings
from taktora_trio.runners.secrets import is_memory_file, read_handed_over, read_url

__all__ = ["apart"]

_TABLES = ("app", "fence", "log", "policy", "store")


def apart(typed: TypedSettings) -> tuple[list[Given], TypedSettings]:
    """Return the keys that were typed, and the rest: settings of connectors. Raises `ConfigError`."""
    rest: list[tuple[str, str | None]] = []
    found: list[tuple[str, str, str | None]] = []
    over: list[Given] = []
    for name, text in typed:
        if name == "app" and text is not None and is_memory_file(Path(text)):
            over += taken_over(read_handed_over(Path(text)))
            continue
        table, dot, _ = name.partition(".")
        key = SHORT.get(name, name if table == "app" else spelled(name))
        policy = f"policy.{name.removesuffix('-policy')}"
        if name in [f"{half}-policy" for half in POLICIES]:
            found.append((policy, name, text))
        elif key_of(key) is not None or (dot and table == "app"):
            found.append((key, name, text))
        elif dot and table in _TABLES:
            close = closest(key, keys(), 0.6)
            raise ConfigError(f"unknown option --{escaped(name)}{f': did you mean --{close}?' if close else ''}")
        else:
            rest.append((name, text))
    return [*over, *_given(found)], tuple(rest)


def _given(found: list[tuple[str, str, str | None]]) -> Iterator[Given]:
    seen: set[str] = set()
    for key, name, text in found:
        if text is None:
            raise ConfigError(f"--{escaped(name)} needs a value; one that begins with '-' is written --{name}=VALUE")
        if key in seen:
            raise ConfigError(f"--{escaped(name)} was given twice: give it once")
        seen.add(key)
        if text[:1] == "@" and is_memory_file(Path(text[1:])):  # a URL with a secret, as `hide_secrets` hands it over
            text = read_url(text, f"the file of --{name}")
        yield Given(key, text, Source.FLAG, f"--{name}")
