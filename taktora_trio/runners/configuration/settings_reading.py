"""Reads settings of connectors: each value that was given, and the files that these name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs

from taktora_trio.connectors.settings import Setting, SettingValue
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.configuration.given import GivenSetting, Source
from taktora_trio.runners.configuration.keys import setting_of
from taktora_trio.runners.configuration.meant import setting_typed, with_hint
from taktora_trio.runners.configuration.settings import Settings
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.options import TypedSettings
from taktora_trio.runners.secrets import Once, read_secret, read_url

__all__ = ["read_settings"]


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
    for one in (*before, *(setting_typed(deployment, name, text) for name, text in typed)):
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
            raise _refused(one, with_hint(exc, [attrs.evolve(value, text=one.text)], deployment)) from exc
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


def _read(one: GivenSetting, value: SettingValue, once: Once | None) -> SettingValue:
    setting, text = one.setting, one.text
    if setting.kind == "secret":
        return attrs.evolve(value, secret=read_secret(Path(text), once) if one.secret is None else one.secret)
    if setting.kind == "url":
        return attrs.evolve(value, text=read_url(text, f"the file of the {setting.name} URL", once))
    if setting.kind == "path" and (not text or "\0" in text):
        raise ConfigError(f"{setting.option} {escaped(text)!r} is no path of a file")
    return attrs.evolve(value, text=text)


def _refused(one: GivenSetting, error: object) -> ConfigError:
    """Return the error with the place before it, where it was not typed."""
    return ConfigError(f"{error}" if one.place is None else f"{one.place}: {error}")
