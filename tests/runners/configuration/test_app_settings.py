"""The app's own settings: of each kind of class, with its types, defaults and validators."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import attrs
import msgspec
import pytest

from taktora_trio import ConfigError, Deployment
from taktora_trio.runners.configuration.reading import read_configuration
from tests.runners.configuration.declared import AppSettings, Limits, Operator, app, deployment


class Colour(Enum):
    RED = "red"


@attrs.frozen
class ByAttrs:
    name: str
    size: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    _hidden: str = attrs.field(default="", repr=False)


@dataclasses.dataclass(frozen=True)
class ByDataclass:
    name: str
    size: int = 1
    tags: list[str] = dataclasses.field(default_factory=list)


class ByStruct(msgspec.Struct, frozen=True):
    name: str
    size: int = 1
    tags: dict[str, int] = {}


@attrs.frozen
class Typed:
    flag: bool = False
    mode: Literal["fast", "slow"] = "slow"
    colour: Colour = Colour.RED
    pause: timedelta = timedelta(seconds=1)
    folder: Path = Path("x")
    numbers: tuple[int, ...] = ()
    table: dict[str, float] = attrs.Factory(dict)
    maybe: int | None = None


def declared(kind: type | str) -> Deployment:
    return attrs.evolve(deployment, settings=kind)


@pytest.mark.parametrize("kind", [ByAttrs, ByDataclass, ByStruct])
def test_each_kind_of_class(operator: Operator, kind: Any) -> None:
    configuration = operator.read('app.name = "a"', {"TAKTORA_APP_SIZE": "3"}, declared=declared(kind))
    assert configuration.configured.app_settings == kind("a", 3)
    with pytest.raises(ConfigError, match="the app needs the setting name"):
        read_configuration(declared(kind), operator.sources("[app]"), "in-process")


def test_types_from_a_file_and_as_text(operator: Operator) -> None:
    expected = Typed(True, "fast", Colour.RED, timedelta(seconds=90), Path("/y"), (1, 2), {"a": 1.5}, 4)
    file = """
[app]
flag = true
mode = "fast"
colour = "red"
pause = "PT90S"
folder = "/y"
numbers = [1, 2]
table = { a = 1.5 }
maybe = 4
"""
    assert operator.read(file, declared=declared(Typed)).configured.app_settings == expected
    texts = {"flag": "true", "mode": "fast", "colour": "red", "pause": "90", "folder": "/y", "maybe": "4"}
    options = {f"app.{name}": text for name, text in (*texts.items(), ("numbers", "1, 2"), ("table", '{"a": 1.5}'))}
    assert operator.read(options=options, declared=declared(Typed)).configured.app_settings == expected
    assert operator.read(
        options={"app.numbers": "[1,2]"}, declared=declared(Typed)
    ).configured.app_settings.numbers == (
        1,
        2,
    )


def test_what_a_program_has_chosen_is_the_default(operator: Operator) -> None:
    chosen = deployment.with_settings(AppSettings("b", Limits(2.0, 3.0), set_point=9))
    assert operator.read(declared=chosen).configured.app_settings == chosen.chosen_settings
    given = operator.read(options={"app.limits.high": "8", "app.zones": "x"}, declared=chosen)
    assert given.configured.app_settings == AppSettings("b", Limits(2.0, 8.0), zones=("x",), set_point=9)


def test_the_defaults_of_a_deployment(operator: Operator) -> None:
    assert deployment.app_settings == AppSettings()
    assert Deployment("none", app, deployment.connectors).app_settings is None
    with pytest.raises(ConfigError, match="ByAttrs has no default"):
        declared(ByAttrs).app_settings  # noqa: B018 - it raises


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (3, "its settings are an object of int: give the class"),
        (AppSettings(), "its settings are an object of AppSettings: give the class"),
        (int, "its settings are <class 'int'>; they must be an attrs class, a dataclass or a msgspec struct"),
        ("no name", "its settings are 'no name'"),
    ],
)
def test_what_is_no_class_of_settings(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        declared(settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tests.runners.configuration.declared:AppSetings", "has no class named 'AppSetings'"),
        ("tests.runners.configuration.declared:app", "has a function, and no class, named 'app'"),
    ],
)
def test_a_name_that_stands_for_no_class(operator: Operator, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        operator.read(declared=declared(name))


def test_a_type_that_nobody_can_write(operator: Operator) -> None:
    @attrs.frozen
    class Odd:
        thing: Operator | None = None

    with pytest.raises(ConfigError, match=r"--app\.thing: .*"):
        operator.read(options={"app.thing": "x"}, declared=declared(Odd))


def test_one_for_two_fields_of_a_variable(operator: Operator) -> None:
    @attrs.frozen
    class Twice:
        a_b: Limits = Limits()
        a: Any = None
        a_b_low: int = 1

    with pytest.raises(ConfigError, match="TAKTORA_APP_A_B_LOW: it stands for several settings"):
        operator.read(variables={"TAKTORA_APP_A_B_LOW": "1"}, declared=declared(Twice))
