"""A configuration as a gateway is started with it: read at the start of a run, and again for a reload, and compared."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import attrs

from taktora_trio.errors import ConfigError
from taktora_trio.runners.configuration.keys import stands_for_none
from taktora_trio.runners.configuration.reading import Configuration, Part, Sources, changes, read_configuration
from taktora_trio.runners.configuration.settings import Settings
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.secrets import raw_memory_file

__all__ = ["Changes", "Chosen", "choose", "read_again"]

_LARGEST = 2**24  # bytes of a file that a setting names: all authorities of a system take 300 KB


@attrs.frozen
class Changes:
    """What another gateway would do otherwise, as keys without values."""

    keys: tuple[str, ...]
    """Such as `connector.NAME.SETTING`."""
    connectors: tuple[str, ...]
    """The connectors that are concerned."""


@attrs.frozen
class Chosen:
    """A configuration whose words stand for things that have been started, and with what is in its files."""

    configuration: Configuration
    settings: Settings
    """What a gateway's process is given."""
    deployment: Deployment
    """What the settings make of the deployment."""
    contents: Mapping[tuple[str | None, str], bytes] = attrs.field(repr=False)
    """What is in the files that settings name, by the connector (`None` for all) and the setting."""
    descriptors: tuple[int, ...] = ()

    @property
    def reload_timeout(self) -> float:
        """Seconds for a gateway to be `Up` that a reload has started."""
        return self.configuration.reload_timeout

    def changes(self, new: Chosen) -> Changes:
        """Return what another gateway would do otherwise with the new configuration."""
        keys: Iterable[str] = changes(self.configuration, new.configuration)
        files = {key for key in {*self.contents, *new.contents} if self.contents.get(key) != new.contents.get(key)}
        named = {".".join(("connector", *filter(None, key))) for key in files}
        keys = sorted({*(key for key in keys if _is_the_gateways(key)), *named})
        concerned = [
            after.name
            for before, after in zip(self.deployment.connectors, new.deployment.connectors, strict=True)
            if before != after or any(only in (None, after.name) for only, _ in files)
        ]
        return Changes(tuple(keys) if concerned else (), tuple(concerned))

    def waits_in(self, new: Chosen) -> list[str]:
        """Return the keys of a new configuration that a run which began with this one leaves to its next start."""
        keys = changes(self.configuration, new.configuration)
        return [key for key in keys if not _is_the_gateways(key) and key != "reload-timeout"]

    async def preflight(self, connectors: Collection[str]) -> None:
        """Raise `ConfigError` unless the other side of each of these connectors can be reached."""
        for connector in self.deployment.connectors:
            if connector.name in connectors:
                await connector.preflight()

    def pinned(self) -> Chosen:
        """Return the same configuration with what its files had in them when it was read, whatever they have now.

        Files are in memory then; `close` lets go of them. Raises `OSError` if there can be none.
        """
        descriptors: list[int] = []
        given = []
        try:
            for setting, value in self.settings.given:
                if (content := self.contents.get((value.connector, setting.name))) is not None:
                    fd, path = raw_memory_file(content, setting.name)
                    descriptors.append(fd)
                    value = attrs.evolve(value, text=path, content=content)
                given.append((setting, value))
        except OSError:
            for fd in descriptors:
                os.close(fd)
            raise
        settings = Settings(tuple(given))
        names = [connector.name for connector in self.deployment.connectors]
        deployment = _deployment(self.configuration, settings, names)
        return attrs.evolve(self, settings=settings, deployment=deployment, descriptors=tuple(descriptors))

    def close(self) -> None:
        """Let go of files in memory."""
        for fd in self.descriptors:
            os.close(fd)


def choose(configuration: Configuration, settings: Settings, only: Collection[str] = ()) -> Chosen:
    """Return a configuration with these settings instead of its own, which may have words. Reads the files they name.

    `only` are the connectors of the gateway; none stands for all. Raises `ConfigError` for a file that can't be read.
    """
    contents = {
        (value.connector, setting.name): _read(value.path, setting.option)
        for setting, value in settings.given
        if setting.kind == "path" and not stands_for_none(setting, value.text)
    }
    return Chosen(configuration, settings, _deployment(configuration, settings, only), contents)


def read_again(
    deployment: Deployment,
    sources: Sources,
    part: Part,
    supplies: Mapping[tuple[str, str], str],
    only: Collection[str] = (),
) -> Callable[[], Chosen]:
    """Return what reads a run's configuration again, and checks it. `supplies` are what the run has started for words.

    `only` are the connectors of the gateway; none stands for all. It blocks on the disk. Raises `ConfigError`.
    """

    def read() -> Chosen:
        configuration = read_configuration(deployment, sources, part)
        configuration.configured.check_files()
        return choose(configuration, configuration.settings.with_supplies(supplies), only)

    return read


def _deployment(configuration: Configuration, settings: Settings, only: Collection[str]) -> Deployment:
    deployment = settings.applied_to(configuration.declared)
    return deployment.with_connectors(only) if only else deployment


def _is_the_gateways(key: str) -> bool:
    return key.startswith("connector.")


def _read(path: Path, option: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as exc:
        raise ConfigError(f"{option} {path} can't be read: {exc.strerror}") from None
    if len(content) > _LARGEST:
        raise ConfigError(f"{option} {path} has more than {_LARGEST} bytes")
    return content
