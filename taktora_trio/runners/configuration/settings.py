"""The settings of connectors that were given: applied to a deployment, and handed on to the gateway's process.

The connectors say which settings there are (`connectors/settings.py`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Collection, Mapping

import attrs

from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.settings import Setting, SettingValue, SettingValues
from taktora_trio.errors import ConfigError
from taktora_trio.runners.configuration.fields import changed
from taktora_trio.runners.configuration.keys import setting_of, stands_for_none
from taktora_trio.runners.configuration.meant import with_hint
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.secrets import (
    carries_secret,
    memory_file,
    raw_memory_file,
)

__all__ = ["Settings"]


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
            hinted = with_hint(exc, values.values(), deployment)
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
