"""The libraries, against the lowest and highest versions that this package asks for."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

import msgspec

from taktora_trio.connectors.finding import Finding, fail, ok, warn

__all__ = ["Requirement", "examine_packages", "parse_requirement"]

_OURS = "taktora-trio"
_REQUIREMENT = re.compile(r"\s*([\w.-]+)\s*(?:\[[^]]*\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?")
_BOUND = re.compile(r"(>=|<=|==|!=|~=|<|>)\s*([\w.*]+)")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w.-]+)['\"]")
_PYTHON = re.compile(r"python_version\s*(>=|<=|==|<|>)\s*['\"]([\d.]+)['\"]")
_NUMBERS = re.compile(r"\d+(?:\.\d+)*")


class Requirement(msgspec.Struct, frozen=True):
    """A library that is needed, as this package's metadata have it (PEP 508)."""

    name: str
    bounds: tuple[tuple[str, str], ...]
    """Such as `>=` and `0.30`."""
    extra: str
    """The extra that it is for; empty if all need it."""
    applies: bool
    """False if it is for another Python."""


def parse_requirement(line: str) -> Requirement:
    """Return what a line of the metadata asks for."""
    found = _REQUIREMENT.fullmatch(line)
    if found is None:
        raise ValueError(f"no requirement: {line!r}")
    name, bounds, marker = found[1], found[2], found[3] or ""
    extra, python = _EXTRA.search(marker), _PYTHON.search(marker)
    applies = python is None or _holds(_numbers(f"{sys.version_info[0]}.{sys.version_info[1]}"), python[1], python[2])
    return Requirement(name, tuple(_BOUND.findall(bounds)), extra[1] if extra else "", applies)


def examine_packages(
    version_of: Callable[[str], str] = version, lines_of: Callable[[str], list[str] | None] = requires
) -> Iterator[Finding]:
    """Yield what is missing or too old. An optional library that is missing is fine."""
    try:
        own, lines = version_of(_OURS), lines_of(_OURS) or []
    except PackageNotFoundError:
        text = f"{_OURS} is not installed as a package: the versions of its libraries are not known"
        yield warn("packages", text, "install it: pip install taktora-trio, or pip install -e . in its folder")
        return
    needed, missing, count = [parse_requirement(line) for line in lines], dict[str, set[str]](), 0
    for one in needed:
        if not one.applies:
            continue
        asked = ",".join(f"{sign}{text}" for sign, text in one.bounds)
        install = f"pip install '{_OURS}{f'[{one.extra}]' if one.extra else ''}=={own}'"
        try:
            there = version_of(one.name)
        except PackageNotFoundError:
            if one.extra:
                missing.setdefault(one.extra, set()).add(one.name)
            else:
                yield fail("packages", f"{one.name}{asked} is missing", install)
            continue
        if all(_holds(_numbers(there), sign, text) for sign, text in one.bounds):
            count += not one.extra
        elif one.extra:
            yield warn("packages", f"{one.name} {there}, and {one.extra} needs {asked}", install)
        else:
            yield fail("packages", f"{one.name} {there}, and {asked} is needed", install)
    yield ok("packages", f"{_OURS} {own}; {count} libraries that it needs are as it needs them")
    if missing:
        names = "; ".join(f"{', '.join(sorted(names))} ({extra})" for extra, names in sorted(missing.items()))
        yield ok("packages", f"optional, and not installed: {names}")


def _numbers(text: str) -> tuple[int, ...]:
    found = _NUMBERS.match(text.removeprefix("v"))
    return tuple(map(int, found[0].split("."))) if found else ()


def _holds(there: tuple[int, ...], sign: str, text: str) -> bool:
    asked = _numbers(text)
    size = max(len(there), len(asked))
    one, other = (numbers + (0,) * (size - len(numbers)) for numbers in (there, asked))
    return {
        ">=": one >= other,
        "<=": one <= other,
        "<": one < other,
        ">": one > other,
        "==": there[: len(asked)] == asked if text.endswith("*") else one == other,
        "!=": one != other,
        "~=": one >= other and there[: len(asked) - 1] == asked[:-1],
    }[sign]
