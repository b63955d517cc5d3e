"""The keys that there are for every deployment. Those of connectors and of the app come from what these declare."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast, get_type_hints

import msgspec

from taktora_trio.channels import Store
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.settings import Setting
from taktora_trio.processes.fence import Fence, GatewayFence, PluginFence
from taktora_trio.runners.configuration.fields import docs_of, fields_of, is_nothing, is_path, spelled
from taktora_trio.runners.this_process.log_formats import LogFormat, LogLevel
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.policy import BACKOFF_FIELDS, RestartPolicy

__all__ = [
    "FENCES",
    "OTHER_NAMES",
    "POLICIES",
    "SHORT",
    "TABLES",
    "Key",
    "closest",
    "help_of",
    "key_of",
    "keys",
    "setting_of",
    "settings_of",
    "stands_for_none",
    "variable_for",
]

POLICIES = ("gateway", "plugin")
FENCES: Mapping[str, type[Fence]] = {"gateway": GatewayFence, "plugin": PluginFence}
TABLES = ("app", "connector", "fence", "log", "policy", "store")


class Key(msgspec.Struct, frozen=True):
    """A key of the file. Its flag is `--KEY`, and its variable `TAKTORA_KEY` in capitals; some have a short one too."""

    name: str
    """Such as `log.level`."""
    hint: Any
    """Its type."""
    help: str = ""
    """Empty for a field of a declared class, whose docstring says it."""

    @property
    def short(self) -> str | None:
        """The option's other name, such as `log`."""
        return next((short for short, name in SHORT.items() if name == self.name), None)


_GENERAL = (
    Key("domain", str, "The name under which both halves find each other; by default the deployment's name."),
    Key("await-peer", bool, "`run`: start even if a peer (a broker, a router) can't be reached, and keep trying."),
    Key("warm", bool, "`run --mode split`: fork the gateway from a process that has everything imported."),
    Key("gateway-thread", bool, "In one process: run the gateway in a thread with a loop of its own."),
    Key(
        "flight-recorder",
        Literal["off", "on", "messages"],
        "Keep what went on in each half lately, and write it to a file at each `Down`; with the messages or without.",
    ),
    Key("reload-timeout", float, "`run`: seconds for a gateway to be `Up` that a reload has started."),
    Key(
        "endpoint", str | None, "`run`: serve probes and metrics there: `HOST:PORT` or `unix:PATH`; `none` for nothing."
    ),
    Key("endpoint-page", bool, "`run`: have a web page there, too."),
    Key("endpoint-token-file", Path | None, "`run`: whoever asks there has to give the token in this file."),
    Key(
        "log.format",
        LogFormat,
        "Log lines for people, JSON for machines, or lines with priorities for the journal of systemd.",
    ),
    Key("log.level", LogLevel, "The least level that is logged."),
)
_GENERAL_BY_NAME = {key.name: key for key in _GENERAL}
SHORT = {"await-broker": "await-peer", "log": "log.format", "store": "store.path"}
"""Keys by their other names, as options and variables have them."""
OTHER_NAMES = {"await-broker": "await-peer"}
"""The same for keys of a file."""


@cache
def keys() -> Mapping[str, Key]:
    """Return every key by its name."""
    found = list(_GENERAL)
    found += [Key(f"store.{spelled(name)}", hint) for name, hint in fields_of(Store).items()]
    of_policy = {
        name: hint
        for field, declared in get_type_hints(RestartPolicy).items()
        for name, hint in (get_type_hints(Backoff) if field == "backoff" else {field: declared}).items()
    }
    found += [Key(f"policy.{half}.{spelled(name)}", hint) for half in POLICIES for name, hint in of_policy.items()]
    found += [
        Key(f"fence.{half}.{spelled(name)}", hint)
        for half, kind in FENCES.items()
        for name, hint in fields_of(cast(type, cast(Hashable, kind))).items()
    ]
    return {key.name: key for key in found}


def key_of(name: str) -> Key | None:
    """Return the key of this name. It looks at the fields of a class only where it has to: each half asks."""
    if name.startswith(("store.", "policy.", "fence.")):
        return keys().get(name)
    return _GENERAL_BY_NAME.get(name)


def help_of(key: Key) -> str:
    """Return what a key is for. For help and references: it reads sources."""
    if key.help:
        return key.help
    table, *rest, name = key.name.split(".")
    if table == "store":
        return docs_of(Store).get(name.replace("-", "_"), "")
    kind = FENCES[rest[0]] if table == "fence" else Backoff if name in BACKOFF_FIELDS else RestartPolicy
    return docs_of(kind).get(name.replace("-", "_"), "")


def variable_for(key: str) -> str:
    """Return the environment variable of a key."""
    return f"TAKTORA_{key.upper().replace('.', '_').replace('-', '_')}"


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
    return setting.hint is not None and is_nothing(text, setting.hint)


@cache
def _of_options(kind: Hashable) -> dict[str, Setting]:
    return {
        spelled(name): Setting(spelled(name), "", kind="path" if is_path(hint) else "text", hint=hint)
        for name, hint in fields_of(cast(type, kind)).items()
    }


def closest(word: str, known: Iterable[str], cutoff: float) -> str | None:
    """Return the known word that resembles this one most, or `None` if by less than `cutoff` (0 to 1)."""
    from difflib import get_close_matches  # a supervisor imports this module too, and is to be small

    return next(iter(get_close_matches(word, list(known), 1, cutoff)), None)
