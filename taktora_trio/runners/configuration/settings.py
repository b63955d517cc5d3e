"""Turns options of a command line into settings of connectors, and these into arguments of the gateway's process.

The connectors say which settings there are (`connectors/settings.py`).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import attrs

from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.settings import Setting, SettingValue, SettingValues
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.configuration.fields import changed
from taktora_trio.runners.configuration.given import GivenSetting, Source
from taktora_trio.runners.configuration.keys import (
    closest,
    keys,
    setting_of,
    settings_of,
    stands_for_none,
)
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.options import TypedSettings
from taktora_trio.runners.secrets import (
    Once,
    carries_secret,
    memory_file,
    raw_memory_file,
    read_secret,
    read_url,
    variable_of,
)

__all__ = ["OWN_OPTIONS", "ProgramSettings", "Settings", "as_typed", "read_settings", "setting_by_variable"]

ProgramSetting: TypeAlias = "str | float | os.PathLike[str]"
ProgramSettings: TypeAlias = Mapping[str, "ProgramSetting | Mapping[str, ProgramSetting]"]
"""Settings as a program gives them: `{"broker": URL}` for all connectors, `{"broker": {NAME: URL}}` for some; any key
of a file too, as `{"app.zone": "north"}`."""

_HALF = frozenset({"--config", "--domain", "--log", "--store"})
_RUN = (
    _HALF
    | {"--mode", "--for", "--await-broker", "--await-peer", "--warm", "--reload-timeout"}
    | {"--gateway-policy", "--plugin-policy"}
)
OWN_OPTIONS = {
    "run": _RUN,
    "plugin": _HALF,
    "gateway": _HALF | {"--connector"},
    "forget": _HALF | {"--even-if-up"},
    "config": _RUN | {"--json", "--example"},
}
"""The commands that take settings, and the options that they have themselves."""
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)=(.*)", re.DOTALL)  # as `check_name` has it


@attrs.frozen
class Settings:
    """The values that an operator has given for the settings of a deployment's connectors."""

    given: tuple[tuple[Setting, SettingValue], ...] = ()

    @property
    def identify(self) -> bool:
        """True if one of them says by which name the other side knows a gateway."""
        return any(setting.identifies for setting, _ in self.given)

    def of(self, connector: Connector) -> SettingValues:
        """Return the values for this connector: of one source, one with its name counts before one for all."""
        mine = [(s.name, value) for s, value in self.given if value.connector in (None, connector.name)]
        mine.sort(key=lambda one: (one[1].rank, one[1].connector is not None))
        return {name: value for name, value in mine if setting_of(connector, name) is not None}

    def applied_to(self, deployment: Deployment) -> Deployment:
        """Return the deployment with these settings. Raises `ConfigError`.

        A connector whose value stands for something that is yet to be started stays as it is.
        """
        return attrs.evolve(
            deployment,
            connectors=[
                connector if self._waits(connector) else self._configured(connector, deployment)
                for connector in deployment.connectors
            ],
        )

    def needed_by(self, deployment: Deployment) -> Settings:
        """Return those that change something in the configured deployment.

        Raises `ConfigError` for one that changes nothing: to go without it is not what was asked for.
        """
        configured = [one for one in deployment.connectors if not self._waits(one)]
        reasons = {connector.name: connector.unused(self.of(connector)) for connector in configured}

        def reason_against(setting: Setting, value: SettingValue) -> str | None:
            # `None` to keep it; an empty text to leave it out without an error.
            users = [one for one in deployment.connectors if self.of(one).get(setting.name) is value]
            if any(self._waits(one) or setting.name not in reasons[one.name] for one in users):
                return None
            given = [reasons[one.name][setting.name] for one in users]
            if not users and self._is_overruled(setting, value, deployment):
                return ""
            each_has = f"{setting.option} is given for each connector by its name, and once more for all: leave it away"
            return "" if "" in given else given[0] if given else each_has

        kept = []
        for setting, value in self.given:
            if (reason := reason_against(setting, value)) is None:
                kept.append((setting, value))
            elif reason:
                raise ConfigError(_placed(setting, value, reason))
        return Settings(tuple(kept))

    def with_supplies(self, supplies: Mapping[tuple[str, str], str]) -> Settings:
        """Return these settings with what a run has started at its start for some values (`supplies`).

        Raises `ConfigError` for one that it would have to start now.
        """
        given = []
        for setting, value in self.given:
            if value.text in setting.words:
                if (word := (setting.name, value.text)) not in supplies:
                    raise ConfigError(f"{setting.option} {value.text} is for the start of a run: stop it, and start it")
                value = attrs.evolve(value, text=supplies[word])
            given.append((setting, value))
        return Settings(tuple(given))

    def supplies(self, supplied: Settings) -> Mapping[tuple[str, str], str]:
        """Return what a run has started for these settings, which `supplied` has instead."""
        return {
            (setting.name, value.text): instead.text
            for (setting, value), (_, instead) in zip(self.given, supplied.given, strict=True)
            if value.text in setting.words
        }

    @contextlib.asynccontextmanager
    async def supplied(self, deployment: Deployment) -> AsyncIterator[Settings]:
        """Start what some values stand for by a word, and yield the settings with the values that the run is to use."""
        started: dict[tuple[str, str], str] = {}
        async with contextlib.AsyncExitStack() as stack:
            given = []
            for setting, value in self.given:
                if value.text in setting.words:
                    word = (setting.name, value.text)
                    if word not in started:
                        users = (one for one in deployment.connectors if self.of(one).get(setting.name) is value)
                        started[word] = await stack.enter_async_context(next(users).open_supply(*word))
                    value = attrs.evolve(value, text=started[word])
                given.append((setting, value))
            yield Settings(tuple(given))

    async def preflight(self, deployment: Deployment) -> None:
        """Raise `ConfigError` unless each connector's other side can be reached.

        Call it on the settings as they are before `supplied`: what the run itself starts is left out.
        """
        for connector in deployment.connectors:
            if not self._waits(connector):
                await connector.preflight()

    def as_arguments(self, connectors: Collection[str] = ()) -> tuple[list[str], list[int]]:
        """Return these settings as arguments of a gateway's process, and the descriptors that it has to inherit.

        A gateway of some connectors alone is given nothing that is for another one. Secrets go by files in memory.
        """
        arguments: list[str] = []
        descriptors: list[int] = []

        def hidden(content: bytes, name: str) -> str:
            fd, path = memory_file(content, name)
            descriptors.append(fd)
            return path

        for setting, value in self.given:
            if connectors and value.connector is not None and value.connector not in connectors:
                continue
            utf8 = value.text.encode("utf-8", "surrogateescape")
            if setting.kind == "secret":
                text = hidden(value.secret, setting.name)
            elif value.content is not None:
                fd, text = raw_memory_file(value.content, setting.name)
                descriptors.append(fd)
            elif setting.kind == "path" and not stands_for_none(setting, value.text):
                text = str(value.path.absolute())
            elif setting.kind in ("text", "path"):
                text = value.text
            else:
                text = f"@{hidden(utf8, setting.name)}" if carries_secret(value.text) else os.fsdecode(utf8)
            only = "" if value.connector is None else f"{value.connector}="
            arguments.append(f"{setting.option}={only}{text}")  # in one word, for it may begin with a dash
        return arguments, descriptors

    def _is_overruled(self, setting: Setting, value: SettingValue, deployment: Deployment) -> bool:
        """True if each connector that it is for has a value of a source that counts more."""
        users = [one for one in deployment.connectors if value.connector in (None, one.name)]
        values = [self.of(one).get(setting.name) for one in users]
        return any(other is not None and other.rank > value.rank for other in values)

    def _configured(self, connector: Connector, deployment: Deployment) -> Connector:
        values = self.of(connector)
        try:
            return _with_values(connector, values)
        except ConfigError as exc:
            hinted = _with_hint(exc, values.values(), deployment)
            for name, value in values.items():  # which of them is it?
                setting = setting_of(connector, name)
                try:
                    _with_values(connector, {name: value})
                except ConfigError:
                    assert setting is not None
                    raise ConfigError(_placed(setting, value, str(hinted))) from exc
            raise hinted from exc

    def _waits(self, connector: Connector) -> bool:
        """True if a value of the connector stands for something which is yet to be started."""
        values = self.of(connector)
        return any(values[one.name].text in one.words for one in connector.settings if one.name in values)


def _with_values(connector: Connector, values: SettingValues) -> Connector:
    listed = {setting.name for setting in connector.settings}
    own = {name: value for name, value in values.items() if name in listed}
    fields = {name.replace("-", "_"): value.text for name, value in values.items() if name not in listed}
    if fields:
        connector = attrs.evolve(connector, options=changed(connector.options, fields))
    return connector.configured(own) if own else connector


def _placed(setting: Setting, value: SettingValue, message: str) -> str:
    """Return the message with the place of a value before it, where it was not typed."""
    if value.file is not None:
        return f"{value.file}: {'.'.join(filter(None, ('connector', value.connector, setting.name)))}: {message}"
    return message if value.variable is None else f"{value.variable}: {message}"


def read_settings(
    deployment: Deployment,
    typed: TypedSettings,
    before: Iterable[GivenSetting] = (),
    *,
    whole_run: bool = False,
    secrets: bool = True,
    once: Once | None = None,
) -> Settings:
    """Return the settings that were typed, over those given `before`. Raises `ConfigError`.

    Each file is read once, for it may be a pipe; `once` keeps what was read, for another time. Only a `whole_run` can
    start what a word stands for, as both halves have to reach it. Without `secrets`, files that have one are left
    alone: the app's half has no use for them.
    """
    given: list[tuple[Setting, SettingValue]] = []
    for one in (*before, *(_typed(deployment, name, text) for name, text in typed)):
        setting, connector = one.setting, one.connector
        if setting.kind == "secret" and not secrets:
            continue
        if one.text in setting.words and not whole_run:
            raise _refused(
                one,
                f"{setting.option} {one.text} is for `run`: a half alone needs one that the other half can reach too",
            )
        several = sum(setting_of(other, setting.name) is not None for other in deployment.connectors) > 1
        value = SettingValue(
            "",
            connector=connector,
            is_shared=connector is None and several,
            variable=one.origin if one.source is Source.ENVIRONMENT else None,
            file=one.origin if one.source is Source.FILE else None,
        )
        try:
            value = _read(one, value, once)
        except ConfigError as exc:
            raise _refused(one, _with_hint(exc, [attrs.evolve(value, text=one.text)], deployment)) from exc
        earlier = next((v for s, v in given if s.name == setting.name and v.connector == connector), None)
        if earlier is None:
            given.append((setting, value))
        elif earlier.rank < value.rank:
            given = [(s, value if v is earlier else v) for s, v in given]
        elif earlier.rank > value.rank:
            pass
        elif setting.repeatable and one.source is Source.FLAG:
            both = attrs.evolve(earlier, text=f"{earlier.text},{value.text}")
            given = [(s, both if v is earlier else v) for s, v in given]
        elif one.source is Source.ENVIRONMENT:
            raise ConfigError(f"{earlier.variable} and {value.variable} are the same setting: give one of them")
        else:
            whom = "" if connector is None else f" for {connector}"
            raise ConfigError(f"{setting.option} was given twice{whom}: give it once, or once for each connector")
    return Settings(tuple(given))


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


def as_typed(settings: ProgramSettings) -> TypedSettings:
    """Return a program's settings as they would be typed at the command line."""
    options: list[tuple[str, str | None]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            options += [(name, f"{connector}={_as_text(own)}") for connector, own in value.items()]
        else:
            options.append((name, _as_text(value)))
    return tuple(options)


def _as_text(value: ProgramSetting) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else os.fspath(value)


def _typed(deployment: Deployment, name: str, text: str | None) -> GivenSetting:
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


def _refused(one: GivenSetting, error: object) -> ConfigError:
    """Return the error with the place before it, where it was not typed."""
    return ConfigError(f"{error}" if one.place is None else f"{one.place}: {error}")


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


def _read(one: GivenSetting, value: SettingValue, once: Once | None) -> SettingValue:
    setting, text = one.setting, one.text
    if setting.kind == "secret":
        return attrs.evolve(value, secret=read_secret(Path(text), once) if one.secret is None else one.secret)
    if setting.kind == "url":
        return attrs.evolve(value, text=read_url(text, f"the file of the {setting.name} URL", once))
    if setting.kind == "path" and (not text or "\0" in text):
        raise ConfigError(f"{setting.option} {escaped(text)!r} is no path of a file")
    return attrs.evolve(value, text=text)


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


def _with_hint(exc: ConfigError, values: Iterable[SettingValue], deployment: Deployment) -> ConfigError:
    """Return the same error, with a remark where something before a '=' looks like a connector's name and is none."""
    heads = [match[1] for v in values if v.connector is None and (match := _NAME.fullmatch(v.text))]
    names = ", ".join(one.name for one in deployment.connectors)
    return ConfigError(f"{exc} (there is no connector {heads[0]!r}; there is {names})") if heads else exc
