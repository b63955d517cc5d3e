"""What of a page's blocks is looked at, where it is not run."""

from __future__ import annotations

import configparser
import functools
import re
import shlex
import tomllib
from collections.abc import Iterator

from taktora_trio.cli import parse
from taktora_trio.errors import ConfigError
from tests.command import ROOT
from tests.docs.blocks import Block

__all__ = ["SETTING_UP", "check_setting_up", "check_unit", "commands_in", "is_quoted", "parse_all"]

# Commands of a shell block that are looked at and not run: CI sets up an environment and makes targets in its own way.
SETTING_UP = re.compile(r"(?:make|pip install|python3? -m venv|\. \S+/activate|sudo apt-get install)\b")


def is_quoted(code: str) -> bool:
    """Return whether each piece of it stands in one of our own examples, and so runs there."""
    return all(any(piece.strip() in source for source in sources()) for piece in code.split("\n\n\n"))


@functools.cache
def sources() -> list[str]:
    folders = ("examples", "supervisors", "tests/conformance")
    return [path.read_text() for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def commands_in(block: str) -> list[str]:
    """Return the commands of a shell block, without comments; one that goes on in the next line is one."""
    lines = block.replace("\\\n", "").splitlines()
    commands = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return [command for command in commands if command]


def parse_all(block: Block) -> None:
    """Have the command parse what can't be run here."""
    for command in commands_in(block.code):
        parse_ours(command)


def parse_ours(command: str) -> None:
    """Find `taktora-trio ...` in a line, and have it parsed, but for what stands for a name."""
    if (ours := re.search(r"\btaktora-trio ([a-z].*)$", command)) is None:
        return
    arguments = shlex.split(ours[1].replace("TARGET", "examples.echo:deployment"))
    try:
        parse(arguments)
    except ConfigError as exc:
        raise AssertionError(f"{command}: {exc}") from None


def check_setting_up(command: str) -> None:
    """Look whether the target or the extra is there."""
    words = shlex.split(command)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
    for extras in re.findall(r"\[([\w,-]+)\]", command):
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(extras.split(",")) <= set(known), command


def check_unit(text: str) -> None:
    """Read a unit of systemd, and have its command parsed."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment] # its keys are of both cases
    unit.read_string(text.replace("\\\n", ""))
    for line in of_units(unit):
        parse_ours(line)


def of_units(unit: configparser.ConfigParser) -> Iterator[str]:
    for section in unit.sections():
        yield from (value for key, value in unit[section].items() if key.startswith("Exec"))
