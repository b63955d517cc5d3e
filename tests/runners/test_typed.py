"""A half's arguments without the parser: the same options as the parser makes of them, or none."""

from __future__ import annotations

from typing import Any

import pytest

from taktora_trio.cli import command, parse
from taktora_trio.runners.command import typed
from taktora_trio.runners.options import Options

PLAIN = [
    ["plugin", "app:deployment"],
    ["plugin", "app:deployment", "--domain", "d", "--log", "json"],
    ["plugin", "--log=console", "app:deployment", "--broker", "mqtt://b"],
    [
        "gateway",
        "app:deployment",
        "--domain=a=b",
        "--store=/tmp/store",
        "--broker=-x",
        "--connector=one",
        "--connector",
        "two",
    ],
    ["gateway", "app:deployment", "--outlast", "15"],
    ["gateway", "--store", "here", "--ca-file", "/ca", "app:deployment", "--flag"],
]
FOR_THE_PARSER = [
    [],
    ["run", "app:deployment", "--mode", "split"],
    ["plan", "app:deployment"],
    ["plugin"],
    ["plugin", "--help"],
    ["plugin", "app:deployment", "--help"],
    ["plugin", "app:deployment", "another:one"],
    ["plugin", "app:deployment", "--log", "xml"],
    ["plugin", "app:deployment", "--log", "json", "--log", "json"],
    ["plugin", "app:deployment", "--domain"],
    ["plugin", "app:deployment", "--domain="],
    ["plugin", "app:deployment", "--domain", "--log", "json"],
    ["plugin", "--", "app:deployment"],
    ["plugin", "app:deployment", "-x"],
    ["gateway", "app:deployment", "--store", ""],
    ["gateway", "app:deployment", "--outlast", "long"],
]


@pytest.mark.parametrize("arguments", PLAIN, ids=" ".join)
def test_plain_arguments_mean_what_the_parser_makes_of_them(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[Any, ...]] = []

    def launch_plugin(target: str, options: Options, settings: object) -> int:
        called.append((target, options, settings))
        return 0

    def launch_gateway(
        target: str, options: Options, settings: object, connectors: object = (), outlast: float = 0.0
    ) -> int:
        called.append((target, options, settings, connectors, outlast))
        return 0

    for module in (command, typed):
        monkeypatch.setattr(module, "launch_plugin", launch_plugin)
        monkeypatch.setattr(module, "launch_gateway", launch_gateway)
    half = typed.plain_half(arguments)
    assert half is not None
    assert half() == 0
    assert parse(arguments)() == 0
    plain, parsed = called
    assert plain == parsed
    assert isinstance(plain[1].store, str | None)


@pytest.mark.parametrize("arguments", FOR_THE_PARSER, ids=" ".join)
def test_all_else_is_for_the_parser(arguments: list[str]) -> None:
    assert typed.plain_half(arguments) is None
