"""A deployment to configure, and ways to give it what an operator gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from taktora_trio import ConnectorHost, Deployment, MqttConnector, MqttOptions, MqttRouting, Outbound
from taktora_trio.runners.configuration.reading import Configuration, Part, Sources, read_configuration


@attrs.frozen
class Limits:
    low: float = 1.0
    """The least."""
    high: float = attrs.field(default=9.0)
    """The most."""

    @high.validator
    def _above_low(self, attribute: object, value: float) -> None:
        if value <= self.low:
            raise ValueError(f"high is {value}; it must be above low")


@attrs.frozen
class AppSettings:
    zone: str = "a"
    """Where it is."""
    limits: Limits = Limits()
    api_token: str = "none"
    """A secret."""
    folder: Path | None = None
    """Where it keeps things."""
    zones: tuple[str, ...] = ()
    """What it looks at."""
    set_point: int = 0
    """What it is to reach."""


async def app(host: ConnectorHost) -> None: ...


deployment = Deployment(
    "house",
    app,
    [
        MqttConnector([Outbound("a", int, MqttRouting("x"))], name="plant", options=MqttOptions(keepalive=7)),
        MqttConnector([Outbound("b", int, MqttRouting("y"))], name="cloud"),
    ],
    settings=AppSettings,
)


class Operator:
    """Gives settings by a file, the environment and options."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.file = folder / "taktora.toml"
        self.patch = patch

    def sources(
        self,
        file: str | None = None,
        variables: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Sources:
        if file is not None:
            self.file.write_text(file)
        for name, text in (variables or {}).items():
            self.patch.setenv(name, text)
        return Sources(typed=tuple((options or {}).items()), config=str(self.file) if file is not None else None)

    def read(
        self, *args: Any, part: Part = "in-process", declared: Deployment = deployment, **kwargs: Any
    ) -> Configuration:
        return read_configuration(declared, self.sources(*args, **kwargs), part)


def options_of(configuration: Configuration, name: str) -> MqttOptions:
    [connector] = [one for one in configuration.configured.connectors if one.name == name]
    assert isinstance(connector.options, MqttOptions)
    return connector.options
