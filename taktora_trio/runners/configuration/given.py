"""A value that an operator has given, and where: in a file, in the environment, or at the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec

from taktora_trio.connectors.settings import Setting
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped

__all__ = ["Given", "GivenSetting", "Source", "handed_over", "taken_over"]


class Source(IntEnum):
    """The three sources. Each wins over the ones before."""

    FILE = 1
    ENVIRONMENT = 2
    FLAG = 3


class Given(msgspec.Struct, frozen=True):
    """A value for a key of the deployment's or of the app's."""

    key: str
    """Such as `log.level`, `policy.gateway.intensity` or `app.limits.high`. A variable of the app's stands as it is."""
    value: Any
    """A text; for the app's settings from a file, what TOML makes of it."""
    source: Source
    origin: str
    """Where it was given: `taktora.toml:12`, `TAKTORA_LOG_LEVEL` or `--log`."""
    folder: Path | None = None
    """Where a relative path begins; `None` for the present folder."""
    places: Mapping[str, str] = {}
    """Where the parts of a table stand, by their keys, such as `app.limits.low`."""

    def refused(self, error: object) -> ConfigError:
        """Return an error that names the place first."""
        key = "" if self.source is Source.FLAG else f"{escaped(self.key)}: " if self.source is Source.FILE else ""
        return ConfigError(f"{self.origin}: {key}{error}")


class GivenSetting(msgspec.Struct, frozen=True):
    """A value for a setting of connectors."""

    setting: Setting
    connector: str | None
    """The only connector that it is for; `None` for each one that has the setting."""
    text: str
    source: Source
    origin: str
    secret: bytes | None = None
    """A secret itself, instead of the path of a file that has it."""

    @property
    def key(self) -> str:
        """The key in a file."""
        return ".".join(filter(None, ("connector", self.connector, self.setting.name)))

    @property
    def place(self) -> str | None:
        """The place as it comes before an error; `None` at the command line, where the error names the option."""
        return {Source.FILE: f"{self.origin}: {self.key}", Source.ENVIRONMENT: self.origin}.get(self.source)


def handed_over(given: Sequence[Given]) -> bytes:
    """Return what was given as bytes, for another process. Raises `ConfigError` for a number that is too large."""
    try:
        return msgspec.msgpack.encode(given, enc_hook=str)
    except (OverflowError, UnicodeEncodeError) as exc:
        raise ConfigError(f"the app's settings can't be handed to its process: {exc}") from None


def taken_over(content: bytes) -> list[Given]:
    """Return what another process has handed over."""
    return msgspec.msgpack.decode(content, type=list[Given], dec_hook=lambda kind, text: kind(text))
