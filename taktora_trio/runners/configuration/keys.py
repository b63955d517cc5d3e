"""The keys that there are for every deployment. Those of connectors and of the app come from what these declare."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from functools import cache
from typing import Any, cast, get_type_hints

import attrs
import msgspec

from taktora_trio.channels import Store
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.settings import Setting
from taktora_trio.runners.configuration.fields import docs_of, fields_of, is_nothing, is_path, spelled
from taktora_trio.runners.this_process.logs import LogFormat, LogLevel
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.policy import BACKOFF_FIELDS, RestartPolicy

__all__ = [
    "KEYS",
    "POLICIES",
    "TABLES",
    "Key",
    "OptionSetting",
    "closest",
    "help_of",
    "setting_of",
    "settings_of",
    "stands_for_none",
    "variable_for",
]

POLICIES = ("gateway", "plugin")
TABLES = ("app", "connector", "log", "policy", "store")


class Key(msgspec.Struct, frozen=True):
    """A key of the file. Its flag is `--KEY`, and its variable `TAKTORA_KEY` in capitals; some have a short one too."""

    name: str
    """Such as `log.level`."""
    hint: Any
    """Its type."""
    help: str = ""
    """Empty for a field of a declared class, whose docstring says it."""
    short: str | None = None
    """The flag's other name, such as `log`."""


def _keys() -> Iterable[Key]:
    yield Key("domain", str, "The name under which both halves find each other; by default the deployment's name.")
    yield Key("await-broker", bool, "`run`: start even if a broker can't be reached, and keep trying.")
    yield Key("warm", bool, "`run --mode split`: fork the gateway from a process that has everything imported.")
    yield Key("gateway-thread", bool, "In one process: run the gateway in a thread with a loop of its own.")
    yield Key("log.format", LogFormat, "Log lines for people, or JSON for machines.", short="log")
    yield Key("log.level", LogLevel, "The least level that is logged.")
    for name, hint in fields_of(Store).items():
        yield Key(f"store.{spelled(name)}", hint, short="store" if name == "path" else None)
    for half in POLICIES:
        for name, hint in POLICY_HINTS.items():
            yield Key(f"policy.{half}.{spelled(name)}", hint)


POLICY_HINTS: Mapping[str, Any] = {
    name: hint
    for field, declared in get_type_hints(RestartPolicy).items()
    for name, hint in (get_type_hints(Backoff) if field == "backoff" else {field: declared}).items()
}
"""The fields of a policy, with those of its backoff by their own names, and their types."""

KEYS: Mapping[str, Key] = {key.name: key for key in _keys()}


def help_of(key: Key) -> str:
    """Return what a key is for. For help and references: it reads sources."""
    if key.help:
        return key.help
    table, *_, name = key.name.split(".")
    if table == "store":
        return docs_of(Store).get(name.replace("-", "_"), "")
    kind = Backoff if name in BACKOFF_FIELDS else RestartPolicy
    return docs_of(kind).get(name.replace("-", "_"), "")


def variable_for(key: str) -> str:
    """Return the environment variable of a key."""
    return f"TAKTORA_{key.upper().replace('.', '_').replace('-', '_')}"


@attrs.frozen
class OptionSetting(Setting):
    """A setting that a connector does not list: a field of its options."""

    hint: Any = attrs.field(default=str, kw_only=True)
    """Its type."""


def settings_of(connector: Connector) -> dict[str, Setting]:
    """Return all settings of a connector by name: those that it lists, and the other fields of its options."""
    listed = {setting.name: setting for setting in connector.settings}
    return listed | {
        name: one for name, one in _of_options(cast(Hashable, type(connector.options))).items() if name not in listed
    }


def setting_of(connector: Connector, name: str) -> Setting | None:
    """Return the connector's setting of this name, if it has one."""
    found = next((setting for setting in connector.settings if setting.name == name), None)
    return found or _of_options(cast(Hashable, type(connector.options))).get(name)


def stands_for_none(setting: Setting, text: str) -> bool:
    """Return whether a text is the word by which a field of options is `None`."""
    return isinstance(setting, OptionSetting) and is_nothing(text, setting.hint)


@cache
def _of_options(kind: Hashable) -> dict[str, Setting]:
    return {
        spelled(name): OptionSetting(spelled(name), "", kind="path" if is_path(hint) else "text", hint=hint)
        for name, hint in fields_of(cast(type, kind)).items()
    }


def closest(word: str, known: Iterable[str], cutoff: float) -> str | None:
    """Return the known word that resembles this one most, or `None` if by less than `cutoff` (0 to 1)."""
    from difflib import get_close_matches  # a supervisor imports this module too, and is to be small

    return next(iter(get_close_matches(word, list(known), 1, cutoff)), None)
