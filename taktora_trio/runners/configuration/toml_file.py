"""Reads a file of settings (TOML), and says in which line each key stands.

`tomllib` reads it, and says nothing of lines. So the file, once it is known to be valid, is cut into its statements,
and each is read alone for the keys that it has.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.secrets import Once, read_once

__all__ = ["KeyPath", "TomlFile", "read_toml"]

KeyPath: TypeAlias = tuple[str, ...]

_LARGEST = 2**20  # bytes: far more than an operator writes
_FOR_OTHERS = stat.S_IRWXO | stat.S_IWGRP
_WHERE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
# What a valid file is cut by: a text in which brackets and line ends are no such, a comment, a bracket, a line end.
_TOKEN = re.compile(
    r'"""(?:\\[\s\S]|(?!""")[^\\])*"""(?:"{0,2})'
    r"|'''(?:(?!''')[\s\S])*'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[\]{}\n]"
)


@attrs.frozen
class TomlFile:
    """The content of a file of settings."""

    path: Path
    table: Mapping[str, Any]
    is_private: bool
    """True if nobody but its owner and its group can read it, and nobody but its owner can write it."""
    _text: str = attrs.field(repr=False)

    @property
    def folder(self) -> Path:
        """The folder from which relative paths in the file begin."""
        return self.path.parent

    def place(self, *key: str) -> str:
        """Return where a key stands, as `taktora.toml:12`."""
        line = next((self._lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self._lines), None)
        name = escaped(str(self.path))
        return name if line is None else f"{name}:{line}"

    @cached_property
    def _lines(self) -> dict[KeyPath, int]:
        return dict(reversed(list(_lines(self._text))))  # of several the first counts


def read_toml(path: Path, once: Once | None = None) -> TomlFile:
    """Read the file. Raises `ConfigError`, with the line, for one that can't be read or is no TOML.

    `once` keeps what can't be read a second time.
    """
    import tomllib  # most runs have no such file, and a supervisor is to be small

    name = escaped(str(path))
    try:
        content = read_once(path, _LARGEST + 1, once)
        found = path.stat().st_mode
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise ConfigError(f"the configuration {name} can't be read: {escaped(str(reason))}") from None
    mode = stat.S_IMODE(found)
    if stat.S_ISREG(found) and mode & stat.S_IWOTH:
        raise ConfigError(f"the configuration {name} can be written by anybody: chmod o-w {name}")
    if len(content) > _LARGEST:
        raise ConfigError(f"the configuration {name} has more than {_LARGEST} bytes")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{name}:{line}: it is not in UTF-8: save it so") from None
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{name}: it is nested too deeply") from None
    except ValueError as exc:  # of tomllib, and of numbers with thousands of digits
        where = _WHERE.search(str(exc))
        line = text.count("\n") + 1 if where is None or where[1] is None else int(where[1])
        place = name if where is None else f"{name}:{line}"
        raise ConfigError(f"{place}: it is no TOML: {escaped(_WHERE.sub('', str(exc)))}") from None
    return TomlFile(path, table, not mode & _FOR_OTHERS, text)


def _lines(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Yield each key of a valid file with its line; a table's too, where it has a heading or holds such a key."""
    import tomllib

    heading: KeyPath = ()
    before: KeyPath
    for line, statement in _statements(text):
        [*keys] = _paths(tomllib.loads(statement))
        if statement.lstrip().startswith("["):
            heading = max(keys, key=len, default=())
            before, keys = (), [heading]
        else:
            before = heading
        for key in keys:
            for length in range(1, len(key) + 1):
                yield (*before, *key[:length]), line


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number of the first line of each statement, and the statement. Empty lines and comments are none."""
    depth = begin = 0
    line = first = 1
    for token in _TOKEN.finditer(text + "\n"):
        found = token[0]
        if found in "[{":
            depth += 1
        elif found in "]}":
            depth -= 1
        elif found == "\n" and depth == 0:
            statement = text[begin : token.start()]
            if statement.strip() and not statement.lstrip().startswith("#"):
                yield first, statement
            begin, first = token.end(), line + 1
        line += found.count("\n")


def _paths(table: Mapping[str, Any]) -> Iterator[KeyPath]:
    for key, value in table.items():
        inner = value[-1] if isinstance(value, list) and value and isinstance(value[-1], dict) else value
        yield (key,)
        if isinstance(inner, dict):
            yield from ((key, *rest) for rest in _paths(inner))
