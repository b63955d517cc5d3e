"""What stands in the environment: TAKTORA_... for each key, and for each setting of the connectors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from taktora_trio.connectors.base import Connector
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.configuration.given import Given, Source
from taktora_trio.runners.configuration.keys import POLICIES, SHORT, closest, keys, settings_of, variable_for

__all__ = ["from_environment", "variables_of"]

APP = "TAKTORA_APP_"
_OF_CONNECTORS = "TAKTORA_CONNECTOR_"
_OURS = re.compile("TAKTORA_(CONFIG|PATH|HALF|SUPERVISOR|STRICT|CHAOS_.*)")
"""Variables that are no settings: where the file is, and what processes of a run tell one another."""
_KUBERNETES = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?)")
"""Variables that Kubernetes makes for a service that is called taktora-..."""


def variables_of(connectors: Sequence[Connector]) -> dict[str, list[str]]:
    """Return the variables that there are, each with what it stands for: one thing, or several if it is ambiguous."""
    known: dict[str, list[str]] = {}
    for name, key in (*((key, key) for key in keys()), *SHORT.items()):
        known.setdefault(variable_for(name), []).append(key)
    for half in POLICIES:
        known[variable_for(f"{half}-policy")] = [f"policy.{half}"]
    for connector in connectors:
        for name in settings_of(connector):
            for prefix in ("connector.", ""):
                into = known.setdefault(variable_for(f"{prefix}{name}"), [])
                if f"connector.{name}" not in into:
                    into.append(f"connector.{name}")
            known.setdefault(variable_for(f"connector.{connector.name}.{name}"), []).append(
                f"connector.{connector.name}.{name}"
            )
    return known


def from_environment(
    environment: Mapping[str, str], connectors: Sequence[Connector]
) -> Iterator[Given | tuple[str, str, str]]:
    """Yield what the variables say; for a setting of connectors its variable, its key and its text.

    An empty one counts as one that is not there. Raises `ConfigError` for one that is probably meant for us, and is not
    known: each in the two tables that are an operator's own, and elsewhere one that resembles one that there is.
    """
    known: dict[str, list[str]] | None = None
    for name in sorted(environment):
        text = environment[name]
        is_apps = name.startswith(APP)
        if not name.startswith("TAKTORA_") or not text or _OURS.fullmatch(name):
            continue
        if name.endswith("_PASSWORD") and not is_apps:
            continue  # `secrets.py` has taken it
        if is_apps:
            if not _KUBERNETES.fullmatch(name):
                if any("\ud800" <= sign <= "\udfff" for sign in text):  # bytes that are none
                    raise ConfigError(f"{name}: it is not in UTF-8")
                yield Given(f"app.{name}", text, Source.ENVIRONMENT, name)
            continue
        known = variables_of(connectors) if known is None else known
        meant = known.get(name, [])
        if len(meant) > 1:
            raise ConfigError(
                f"{name}: it may stand for {' or for '.join(meant)}: give that in a file, or by an option"
            )
        if not meant:
            _check_unknown(name, known)
        elif meant[0].startswith("connector."):
            yield name, meant[0], text
        else:
            yield Given(meant[0], text, Source.ENVIRONMENT, name)


def _check_unknown(name: str, known: Mapping[str, object]) -> None:
    if _KUBERNETES.fullmatch(name):
        return
    shorter = {one.removeprefix("TAKTORA_"): one for one in known}
    close = closest(name.removeprefix("TAKTORA_"), shorter, 0.8)
    if close is None and not name.startswith(_OF_CONNECTORS):
        return
    meant = f"is {shorter[close]} meant?" if close else "`taktora-trio config` lists the connectors and their settings"
    raise ConfigError(f"{escaped(name)}: there is no such setting; {meant}")
