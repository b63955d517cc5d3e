"""Reads all that an operator has given for a run, checks it, and says what comes of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
import msgspec

from taktora_trio.channels import Store
from taktora_trio.errors import ConfigError
from taktora_trio.processes.fence import Fences
from taktora_trio.runners.configuration.endpoint import Endpoint, endpoint_of
from taktora_trio.runners.configuration.fields import NOTHING, changed, from_text, is_nothing
from taktora_trio.runners.configuration.from_flags import apart
from taktora_trio.runners.configuration.given import Given, GivenSetting, Source, handed_over
from taktora_trio.runners.configuration.keys import FENCES, POLICIES, SHORT, key_of
from taktora_trio.runners.configuration.meant import setting_by_variable
from taktora_trio.runners.configuration.settings import Settings
from taktora_trio.runners.configuration.settings_reading import read_settings
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.loading import load_settings_class
from taktora_trio.runners.options import TypedSettings, given_store
from taktora_trio.runners.secrets import Once, memory_file
from taktora_trio.runners.this_process.log_formats import LogFormat, LogLevel
from taktora_trio.supervision.policy import RestartPolicy
from taktora_trio.transport.domain import Domain

__all__ = [
    "DEFAULT_FILE",
    "Configuration",
    "Part",
    "Sources",
    "changes",
    "effective",
    "read_configuration",
    "read_endpoint",
    "read_keys",
]

DEFAULT_FILE = "taktora.toml"
_RELOAD_TIMEOUT = 20.0  # seconds: more than an attempt at each of a peer's addresses takes
_LONGEST_RELOAD = 3600.0
Part: TypeAlias = Literal["in-process", "supervisor", "plugin", "gateway"]
"""Who reads: both halves in one process, a supervisor of both, or one of them alone."""


class Sources(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Where a configuration comes from. It may be read again: a file, and the files that it names, may have changed."""

    typed: TypedSettings = ()
    """What was typed, or given by a program: names without dashes, and texts."""
    config: str | None = None
    """The file; by default the one that TAKTORA_CONFIG names."""
    default: bool = False
    """True if `taktora.toml` in the present folder is read where no file is named."""
    environment: bool = True
    """False if only what was typed counts, and a file that was: under a supervisor, which hands over what is meant."""
    once: Once = {}
    """What was read of pipes."""

    def __repr__(self) -> str:
        return f"Sources(config={self.config!r})"  # there may be secrets in the rest

    @property
    def file(self) -> Path | None:
        """The file that is read. Raises `ConfigError` for an empty name."""
        if self.config == "":
            raise ConfigError("--config is empty: give a path, or leave it out")
        named = self.config
        if named is None and self.environment:
            named = os.environ.get("TAKTORA_CONFIG") or (DEFAULT_FILE if self.default and _is_there() else None)
        return None if named is None else Path(named)


class Configuration(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What comes of all sources. Two of them are equal if a run would do the same by them."""

    declared: Deployment
    """The deployment with all but the settings of its connectors, for something of these may have to be started."""
    configured: Deployment
    """The same with these settings too, except for what has to be started."""
    settings: Settings
    """The settings of connectors, without those that other ones have overruled."""
    domain: str
    log: LogFormat
    level: LogLevel
    await_peers: bool
    warm: bool
    reload_timeout: float
    fences: Fences
    endpoint: Endpoint | None
    app: tuple[Given, ...]
    """What was given for the app's settings, as the plugin's process reads it."""
    given: tuple[Given | GivenSetting, ...]
    """All that was given, with its places, in order of precedence."""
    file: Path | None
    """The file that was read."""

    def __eq__(self, other: object) -> bool:
        return self._effect() == other._effect() if isinstance(other, Configuration) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.domain, self.log, self.level, self.await_peers, self.warm))

    def __repr__(self) -> str:
        return f"Configuration(domain={self.domain!r}, configured={self.configured!r})"

    def _effect(self) -> tuple[object, ...]:
        """Return all that a run goes by, without the places where it was given."""
        app = [(one.key, one.value) for one in self.app]
        run = (self.domain, self.log, self.level, self.await_peers, self.warm, self.reload_timeout, self.fences)
        return (*run, self.endpoint, self.declared, self.configured, self.settings, app)

    def refuse(self, table: str, why: str) -> None:
        """Raise `ConfigError`, with the place, if a key of this table was given."""
        for key, given in effective(self.given).items():
            if key.startswith(f"{table}."):
                raise given.refused(why)

    def arguments(self) -> list[str]:
        """Return what both halves' processes are told at their command lines."""
        level = [] if self.level == "info" else [f"--log.level={self.level}"]
        flight = self.configured.flight_recorder
        recorder = [] if flight == "off" else [f"--flight-recorder={flight}"]
        return ["--domain", self.domain, "--log", self.log, *level, *recorder]

    def store_arguments(self) -> list[str]:
        """Return what the gateway's process is told of its store."""
        store = self.declared.store
        given = {name: one.value for name, one in effective(self.given).items() if name.startswith("store.")}
        if "store.path" in given and store is not None and store.path is not None:
            given["store.path"] = str(store.path)
        short = {name: short for short, name in SHORT.items()}
        return [f"--{short.get(name, name)}={value}" for name, value in given.items()]

    @contextlib.contextmanager
    def app_arguments(self) -> Iterator[tuple[list[str], list[int]]]:
        """Yield what the plugin's process is told of the app's settings, and the descriptors that it has to inherit.

        They go by a file in memory, since there may be secrets among them, which a command line would show.
        """
        if not self.app:
            yield [], []
            return
        fd, path = memory_file(handed_over(self.app), "app")
        try:
            yield [f"--app={path}"], [fd]
        finally:
            os.close(fd)


def read_configuration(
    deployment: Deployment, sources: Sources, part: Part, *, checks_needs: bool = True
) -> Configuration:
    """Read the sources, check what they say, and return what comes of it. Raises `ConfigError`, with the place.

    It starts nothing, and may be called again with the same sources, for example at a signal: then the file is read
    anew, and each file that it or an option names. What can't be read twice (a pipe) counts as it was. Compare two
    results by `==`, and see by `changes(before, after)` which keys differ. The environment and the command line of this
    process stay as they were.

    Who reads as `plugin` gets no settings of connectors but those that were typed, and no secret; as `gateway`, none
    of the app's. Without `checks_needs`, settings stay of which no connector has a use, as a supervisor has checked.
    """
    given, settings_typed = _given(deployment, sources)
    keys = effective(given)
    declared = _with_keys(deployment, keys)
    before = [one for one in given if isinstance(one, GivenSetting)] if part != "plugin" else []
    settings = read_settings(
        declared,
        settings_typed,
        before,
        whole_run=part in ("in-process", "supervisor"),
        secrets=part != "plugin",
        once=sources.once,
    )
    configured = settings.applied_to(declared)
    if checks_needs:
        settings = settings.needed_by(configured)
    app = tuple(one for one in given if isinstance(one, Given) and one.key.partition(".")[0] == "app")
    if part != "gateway" and (chosen := _chosen(deployment, app, part)) is not None:
        declared, configured = declared.with_settings(chosen), configured.with_settings(chosen)
    values = {name: _value(one) for name, one in keys.items() if "." not in name}
    return Configuration(
        declared=declared,
        configured=configured,
        settings=settings,
        domain=_domain(keys, declared),
        log=keys["log.format"].value if "log.format" in keys else "console",
        level=keys["log.level"].value if "log.level" in keys else "info",
        await_peers=values.get("await-peer", False),
        warm=values.get("warm", False),
        reload_timeout=_timeout(keys),
        fences=_fences(keys),
        endpoint=endpoint_of(keys),
        app=app,
        given=tuple(given),
        file=sources.file,
    )


def read_keys(deployment: Deployment, sources: Sources) -> tuple[Deployment, str]:
    """Return the deployment with its store and its policies as they are configured, and the domain of its runs.

    For who looks at a run: settings of connectors and of the app are known, and not read. Raises `ConfigError`.
    """
    keys = effective(_given(deployment, sources)[0])
    return _with_keys(deployment, keys), _domain(keys, deployment)


def read_endpoint(deployment: Deployment, sources: Sources) -> tuple[Endpoint | None, str]:
    """Return the endpoint that is configured, and the domain of the runs. Raises `ConfigError`."""
    keys = effective(_given(deployment, sources)[0])
    return endpoint_of(keys), _domain(keys, deployment)


def _domain(keys: Mapping[str, Given], deployment: Deployment) -> str:
    if (given := keys.get("domain")) is None:
        return deployment.name
    name: str = given.value
    try:
        Domain(name)
    except ConfigError as exc:
        raise given.refused(str(exc).removesuffix(" (--domain NAME)")) from None
    return name


def _given(deployment: Deployment, sources: Sources) -> tuple[list[Given | GivenSetting], TypedSettings]:
    """Return what was given, in order of precedence, and what was typed for settings of connectors."""
    file = sources.file
    given: list[Given | GivenSetting] = []
    if file is not None:
        from taktora_trio.runners.configuration.from_file import from_file  # most runs have none
        from taktora_trio.runners.configuration.toml_file import read_toml

        given += from_file(read_toml(file, sources.once), deployment.connectors)
    if sources.environment and (variables := _environment()):
        from taktora_trio.runners.configuration.from_environment import from_environment  # nor have many of these

        for one in from_environment(variables, deployment.connectors):
            given.append(one if isinstance(one, Given) else setting_by_variable(deployment, *one))
    typed, settings_typed = apart(sources.typed)
    return [*given, *typed], settings_typed


def _chosen(deployment: Deployment, given: Sequence[Given], part: Part) -> Any:
    """Return the app's settings, if it has any. A supervisor leaves those alone whose class is given by name."""
    if deployment.settings is None:
        if given:
            raise given[0].refused(f"the app of deployment {deployment.name!r} has no settings")
        return None
    if (isinstance(deployment.settings, str) and part == "supervisor") or not (
        given or deployment.chosen_settings is None
    ):
        return deployment.chosen_settings
    from taktora_trio.runners.configuration.app_settings import app_settings  # many apps have none

    return app_settings(load_settings_class(deployment), given, deployment.chosen_settings)


def changes(before: Configuration, after: Configuration) -> tuple[str, ...]:
    """Return the keys that were given otherwise, in order. Files that keys name are not looked at."""
    old, new = _texts(before), _texts(after)
    return tuple(sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)))


def _texts(configuration: Configuration) -> dict[str, Any]:
    texts: dict[str, Any] = {key: one.value for key, one in effective(configuration.given).items()}
    for one in configuration.app:
        texts[one.key] = one.value
    for setting, value in configuration.settings.given:
        texts[".".join(filter(None, ("connector", value.connector, setting.name)))] = value.text, value.secret
    return texts


def _timeout(keys: Mapping[str, Given]) -> float:
    """Return the seconds for a gateway that a reload has started."""
    if (given := keys.get("reload-timeout")) is None:
        return _RELOAD_TIMEOUT
    seconds: float = from_text("reload-timeout", given.value, float)
    if not 0 < seconds <= _LONGEST_RELOAD:
        raise given.refused(f"{seconds:g} s; give more than 0, and at most {_LONGEST_RELOAD:g}")
    return seconds


def _is_there() -> bool:
    return os.path.lexists(DEFAULT_FILE)


def _environment() -> Mapping[str, str]:
    return {name: text for name, text in os.environ.items() if name.startswith("TAKTORA_")}


def effective(given: Iterable[Given | GivenSetting]) -> dict[str, Given]:
    """Return what counts for each key but the app's, checked by its type. Raises `ConfigError`."""
    winners: dict[str, Given] = {}
    for some in given:
        if isinstance(some, GivenSetting) or some.key.partition(".")[0] == "app":
            continue
        for one in _parts(some):
            before = winners.get(one.key)
            if before is not None and before.source is one.source is Source.ENVIRONMENT:
                raise ConfigError(f"{before.origin} and {one.origin} are the same setting: give one of them")
            try:
                _value(one)
            except ConfigError as exc:
                raise _refused(one, exc) from None
            winners[one.key] = one
    return winners


def _value(one: Given) -> Any:
    key = key_of(one.key)
    assert key is not None
    return from_text(one.key, one.value, key.hint)


def _parts(one: Given) -> Iterable[Given]:
    """Yield it; a text of several fields of a policy as one for each of them."""
    if one.key not in [f"policy.{half}" for half in POLICIES]:
        yield one
        return
    try:
        RestartPolicy().changed(one.value)
    except ConfigError as exc:
        if "must be at least initial" not in str(exc):  # which the declared policy decides
            raise _refused(one, exc) from None
    for part in one.value.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        yield Given(f"{one.key}.{name.replace('_', '-')}", value, one.source, one.origin)


def _refused(one: Given, error: ConfigError) -> ConfigError:
    text = str(error).removeprefix(f"{one.key} is ") if one.source is Source.FILE else str(error)
    return one.refused(text)


def _with_keys(deployment: Deployment, keys: Mapping[str, Given]) -> Deployment:
    """Return the deployment with its store, its policies and its thread as they were given."""
    changes: dict[str, Any] = {}
    store = {name: one for name, one in keys.items() if name.startswith("store.")}
    if store:
        changes["store"] = _blaming(store, lambda some: _store(deployment.store or Store(), some))
    for half in POLICIES:
        fields = {name: one for name, one in keys.items() if name.startswith(f"policy.{half}.")}
        if fields:
            declared: RestartPolicy = getattr(deployment, f"{half}_policy")
            changes[f"{half}_policy"] = _blaming(fields, lambda some, policy=declared: policy.changed(_as_text(some)))
    if "gateway-thread" in keys:
        changes["gateway_thread"] = from_text("gateway-thread", keys["gateway-thread"].value, bool)
    if "flight-recorder" in keys:
        changes["flight_recorder"] = keys["flight-recorder"].value
    return attrs.evolve(deployment, **changes) if changes else deployment


def _fences(keys: Mapping[str, Given]) -> Fences:
    fences: dict[str, Any] = {}
    for half, kind in FENCES.items():
        given = {name: one for name, one in keys.items() if name.startswith(f"fence.{half}.")}
        fences[half] = _blaming(given, lambda some, kind=kind: changed(kind(), _fields(some))) if given else kind()
    return Fences(**fences)


def _fields(given: Mapping[str, Given]) -> dict[str, str]:
    """Return what was given for the fields of a class, by their names."""
    return {name.split(".")[-1].replace("-", "_"): one.value for name, one in given.items()}


def _store(declared: Store, given: Mapping[str, Given]) -> Store:
    texts = _fields(given)
    path = given.get("store.path")
    if path is not None and not is_nothing(path.value, Path | None) and (folder := given_store(path.value)) is not None:
        texts["path"] = str(folder if path.folder is None else (path.folder / path.value).absolute())
    return changed(declared, texts)


def _as_text(given: Mapping[str, Given]) -> str:
    return ",".join(f"{name}={'off' if text.lower() in NOTHING else text}" for name, text in _fields(given).items())


def _blaming(given: Mapping[str, Given], make: Any) -> Any:
    """Return what is made of all. Raises its `ConfigError` with the place of the one that can't be."""
    try:
        return make(given)
    except ConfigError as exc:
        for name, one in given.items():
            try:
                make({name: one})
            except ConfigError as alone:
                raise one.refused(alone) from None
        raise list(given.values())[-1].refused(exc) from None
