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
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.options import TypedSettings
from taktora_trio.runners.secrets import carries_secret, memory_file, read_secret, read_url, variable_of

__all__ = ["OWN_OPTIONS", "ProgramSettings", "Settings", "as_typed", "read_settings"]

ProgramSettings: TypeAlias = Mapping[str, "str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]]"]
"""Settings as a program gives them: `{"broker": URL}` for all connectors, `{"broker": {NAME: URL}}` for some."""

_HALF = frozenset({"--domain", "--log", "--store"})
OWN_OPTIONS = {
    "run": _HALF
    | {"--mode", "--for", "--await-broker", "--await-peer", "--warm", "--gateway-policy", "--plugin-policy"},
    "plugin": _HALF,
    "gateway": _HALF | {"--connector"},
    "forget": _HALF | {"--even-if-up"},
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
        """Return the values for this connector: one with its name counts before one for all."""
        names = {setting.name for setting in connector.settings}
        mine = [(s.name, value) for s, value in self.given if s.name in names]
        return {
            **{name: value for name, value in mine if value.connector is None},
            **{name: value for name, value in mine if value.connector == connector.name},
        }

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
            each_has = f"{setting.option} is given for each connector by its name, and once more for all: leave it away"
            return "" if "" in given else given[0] if given else each_has

        kept = []
        for setting, value in self.given:
            if (reason := reason_against(setting, value)) is None:
                kept.append((setting, value))
            elif reason:
                raise ConfigError(reason)
        return Settings(tuple(kept))

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
            elif setting.kind == "path":
                text = str(value.path.absolute())
            elif setting.kind == "text":
                text = value.text
            else:
                text = f"@{hidden(utf8, setting.name)}" if carries_secret(value.text) else os.fsdecode(utf8)
            only = "" if value.connector is None else f"{value.connector}="
            arguments.append(f"{setting.option}={only}{text}")  # in one word, for it may begin with a dash
        return arguments, descriptors

    def _configured(self, connector: Connector, deployment: Deployment) -> Connector:
        values = self.of(connector)
        try:
            return connector.configured(values) if values else connector
        except ConfigError as exc:
            raise _with_hint(exc, values.values(), deployment) from exc

    def _waits(self, connector: Connector) -> bool:
        """True if a value of the connector stands for something which is yet to be started."""
        values = self.of(connector)
        return any(values[one.name].text in one.words for one in connector.settings if one.name in values)


def read_settings(
    deployment: Deployment, typed: TypedSettings, *, whole_run: bool = False, secrets: bool = True
) -> Settings:
    """Return the settings that were typed. Reads each file once, for it may be a pipe. Raises `ConfigError`.

    Only a `whole_run` can start what a word stands for, as both halves have to reach it. Without `secrets`, files that
    have one are left alone: the app's half has no use for them.
    """
    given: list[tuple[Setting, SettingValue]] = []
    for name, text in typed:
        setting, connector, rest = _meant(deployment, name, text)
        if setting.kind == "secret" and not secrets:
            continue
        if rest in setting.words and not whole_run:
            raise ConfigError(
                f"{setting.option} {rest} is for `run`: a half alone needs one that the other half can reach too"
            )
        several = sum(_setting_of(one, name) is not None for one in deployment.connectors) > 1
        value = SettingValue("", connector=connector, is_shared=connector is None and several)
        try:
            value = _read(setting, rest, value)
        except ConfigError as exc:
            raise _with_hint(exc, [attrs.evolve(value, text=rest)], deployment) from exc
        before = next((v for s, v in given if s.name == name and v.connector == connector), None)
        if before is None:
            given.append((setting, value))
        elif before.variable is not None:  # what is said at the command line counts before the environment
            given = [(s, value if v is before else v) for s, v in given]
        elif setting.repeatable:
            both = attrs.evolve(before, text=f"{before.text},{value.text}")
            given = [(s, both if v is before else v) for s, v in given]
        elif value.variable is None:
            whom = "" if connector is None else f" for {connector}"
            raise ConfigError(f"{setting.option} was given twice{whom}: give it once, or once for each connector")
    return Settings(tuple(given))


def as_typed(settings: ProgramSettings) -> TypedSettings:
    """Return a program's settings as they would be typed at the command line."""
    options: list[tuple[str, str | None]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            options += [(name, f"{connector}={os.fspath(own)}") for connector, own in value.items()]
        else:
            options.append((name, os.fspath(value)))
    return tuple(options)


def _meant(deployment: Deployment, name: str, text: str | None) -> tuple[Setting, str | None, str]:
    """Return the setting, the only connector that is meant, if any, and the value."""
    having = [one for one in deployment.connectors if _setting_of(one, name) is not None]
    if not having:
        raise ConfigError(_unknown(deployment, name, text))
    if text is None:
        raise ConfigError(f"--{name} needs a value; one that begins with '-' is written --{name}=VALUE")
    head, rest = match.groups() if (match := _NAME.fullmatch(text)) else ("", text)
    named = next((one for one in deployment.connectors if one.name == head), None)
    if named is not None:
        setting = _setting_of(named, name)
        if setting is None:
            raise ConfigError(f"connector {head!r} has no setting --{name}; {having[0].name!r} has")
        return setting, head, rest
    if head and (close := _closest(head, [one.name for one in deployment.connectors], 0.75)):
        raise ConfigError(
            f"--{name} {head}=...: there is no connector {head!r}; is {close[0]!r} meant? If it is part of the value,"
            f" write --{name} {having[0].name}={head}=..."
        )
    settings = [setting for one in having if (setting := _setting_of(one, name))]
    if any((one.kind, one.words) != (settings[0].kind, settings[0].words) for one in settings):
        raise ConfigError(f"--{name} is not the same for all connectors: write --{name} CONNECTOR=VALUE for each")
    return settings[0], None, text


def _setting_of(connector: Connector, name: str) -> Setting | None:
    return next((setting for setting in connector.settings if setting.name == name), None)


def _read(setting: Setting, text: str, value: SettingValue) -> SettingValue:
    if setting.kind == "secret":
        return attrs.evolve(value, secret=read_secret(Path(text)), variable=variable_of(Path(text)))
    if setting.kind == "url":
        return attrs.evolve(value, text=read_url(text, f"the file of the {setting.name} URL"))
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
    close = _closest(f"--{name}", [*known, *sorted(OWN_OPTIONS["run"])], 0.7)
    listed = ", ".join(known) or "none"
    meant = f"did you mean {close[0]}?" if close else f"the settings of its connectors are {listed}"
    return f"unknown option --{escaped(name)} for deployment {deployment.name!r}: {meant}"


def _with_hint(exc: ConfigError, values: Iterable[SettingValue], deployment: Deployment) -> ConfigError:
    """Return the same error, with a remark where something before a '=' looks like a connector's name and is none."""
    heads = [match[1] for v in values if v.connector is None and (match := _NAME.fullmatch(v.text))]
    names = ", ".join(one.name for one in deployment.connectors)
    return ConfigError(f"{exc} (there is no connector {heads[0]!r}; there is {names})") if heads else exc


def _closest(word: str, known: Iterable[str], cutoff: float) -> list[str]:
    """Return the known word that resembles this one most, or none if by less than `cutoff` (0 to 1)."""
    from difflib import get_close_matches  # a supervisor imports this module too, and is to be small

    return get_close_matches(word, list(known), 1, cutoff)
