"""Which setting an option or a variable stands for, and of which connector."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from taktora_trio.connectors.settings import Setting, SettingValue
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.configuration.given import GivenSetting, Source
from taktora_trio.runners.configuration.keys import closest, keys, setting_of, settings_of
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.options import OWN_OPTIONS
from taktora_trio.runners.secrets import variable_of

__all__ = ["setting_by_variable", "setting_typed", "with_hint"]

_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)=(.*)", re.DOTALL)  # as `check_name` has it


def setting_typed(deployment: Deployment, name: str, text: str | None) -> GivenSetting:
    """Return what was typed, or what a variable says whose secret was put in its place. Raises `ConfigError`."""
    variable = None if text is None else variable_of(Path(text.removeprefix("@")))
    if variable is not None and text is not None:
        from taktora_trio.runners.configuration.from_environment import variables_of  # most have none

        meant = variables_of(deployment.connectors)
        [key, *_] = meant.get(variable) or meant.get(f"{variable}_FILE") or [""]
        if key.startswith("connector."):
            return setting_by_variable(deployment, variable, key, text)
    if name.startswith("connector."):
        _, *only, own = name.split(".")
        if len(only) == 1:
            name, text = own, None if text is None else f"{only[0]}={text}"
            connector = next((one for one in deployment.connectors if one.name == only[0]), None)
            if connector is None:
                names = [one.name for one in deployment.connectors]
                close = closest(only[0], names, 0.6)
                raise ConfigError(
                    f"--connector.{escaped(only[0])}.{escaped(own)}: there is no connector {escaped(only[0])!r};"
                    f" {f'is {close} meant?' if close else 'there is ' + ', '.join(names)}"
                )
        elif not only:
            name = own
    setting, connector_name, rest = _meant(deployment, name, text)
    return GivenSetting(
        setting,
        connector_name,
        rest,
        Source.FLAG if variable is None else Source.ENVIRONMENT,
        setting.option if variable is None else variable,
    )


def setting_by_variable(deployment: Deployment, variable: str, key: str, text: str) -> GivenSetting:
    """Return what a variable of the environment says, for a key such as `connector.broker`. Raises `ConfigError`."""
    _, *only, name = key.split(".")
    if only:
        [connector] = [one for one in deployment.connectors if one.name == only[0]]
        setting = setting_of(connector, name)
        assert setting is not None
        return GivenSetting(setting, only[0], text, Source.ENVIRONMENT, variable)
    setting, connector_name, rest = _meant(deployment, name, text)
    return GivenSetting(setting, connector_name, rest, Source.ENVIRONMENT, variable)


def with_hint(exc: ConfigError, values: Iterable[SettingValue], deployment: Deployment) -> ConfigError:
    """Return the same error, with a remark where something before a '=' looks like a connector's name and is none."""
    heads = [match[1] for v in values if v.connector is None and (match := _NAME.fullmatch(v.text))]
    names = ", ".join(one.name for one in deployment.connectors)
    return ConfigError(f"{exc} (there is no connector {heads[0]!r}; there is {names})") if heads else exc


def _meant(deployment: Deployment, name: str, text: str | None) -> tuple[Setting, str | None, str]:
    """Return the setting, the only connector that is meant, if any, and the value."""
    having = [one for one in deployment.connectors if setting_of(one, name) is not None]
    if not having:
        raise ConfigError(_unknown(deployment, name, text))
    if text is None:
        raise ConfigError(f"--{name} needs a value; one that begins with '-' is written --{name}=VALUE")
    head, rest = match.groups() if (match := _NAME.fullmatch(text)) else ("", text)
    named = next((one for one in deployment.connectors if one.name == head), None)
    if named is not None:
        setting = setting_of(named, name)
        if setting is None:
            raise ConfigError(f"connector {head!r} has no setting --{name}; {having[0].name!r} has")
        return setting, head, rest
    if head and (close := closest(head, [one.name for one in deployment.connectors], 0.75)):
        raise ConfigError(
            f"--{name} {head}=...: there is no connector {head!r}; is {close!r} meant? If it is part of the value,"
            f" write --{name} {having[0].name}={head}=..."
        )
    settings = [setting for one in having if (setting := setting_of(one, name))]
    if any(_form(one) != _form(settings[0]) for one in settings):
        raise ConfigError(f"--{name} is not the same for all connectors: write --{name} CONNECTOR=VALUE for each")
    return settings[0], None, text


def _form(setting: Setting) -> tuple[object, ...]:
    return setting.kind, setting.words, setting.hint


def _unknown(deployment: Deployment, name: str, text: str | None) -> str:
    if text is not None and (variable := variable_of(Path(text))):
        return (
            f"the environment has {variable}, but no connector of deployment {deployment.name!r} takes a password so:"
            " unset it"
        )
    known = sorted({setting.option for one in deployment.connectors for setting in one.settings})
    options = [f"--{own}" for one in deployment.connectors for own in settings_of(one)]
    others = [f"--{key}" for key in keys()]
    close = closest(f"--{name}", [*known, *sorted(OWN_OPTIONS["run"]), *options, *others], 0.7)
    listed = ", ".join(known) or "none"
    meant = f"did you mean {close}?" if close else f"the settings of its connectors are {listed}"
    return f"unknown option --{escaped(name)} for deployment {deployment.name!r}: {meant}"
