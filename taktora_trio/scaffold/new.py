"""`taktora-trio new`: a project with an app, a test, a configuration and a unit file, which runs at once."""

from __future__ import annotations

import keyword
import re
import sys
import tomllib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Annotated

from cyclopts import Parameter

from taktora_trio.channels import check_name
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.this_process.outcome import show
from taktora_trio.scaffold.folders import fill, given_folder, in_shell

__all__ = ["PROTOCOLS", "new_project", "project_files"]

_TEMPLATES = Path(__file__).with_name("templates")
_WORDS = _TEMPLATES / "protocols"
PROTOCOLS = sorted(file.stem for file in _WORDS.iterdir())
"""What a project may speak, by default the first. A file has the words of each."""
# What each becomes in the new folder.
_FILES = {
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "gitignore": ".gitignore",
    "app.py": "{module}.py",
    "taktora.toml": "taktora.toml",
    "tests/test_app.py": "tests/test_{module}.py",
    "unit.service": "{name}.service",
}


def new_project(
    name: Annotated[str, Parameter(help="Its name: lower case letters, digits, - and _, as boiler-room.")],
    /,
    *,
    to: Annotated[str | None, Parameter(help="The folder, which is new or empty; by default NAME here.")] = None,
    protocol: Annotated[
        str | None, Parameter(help=f"What it speaks: {' or '.join(PROTOCOLS)}. By default {PROTOCOLS[0]}.")
    ] = None,
) -> int:
    """Write a new project. Raises `ConfigError` for a name that can't be one, or a folder where something is."""
    files = project_files(name, PROTOCOLS[0] if protocol is None else protocol)
    folder = Path(name) if to is None else given_folder(to, "--to")
    shown = in_shell(folder)
    try:
        _write(folder, files)
    except OSError as exc:
        raise ConfigError(f"can't write a project to {shown}: {exc.strerror}") from exc
    module = _module(name)
    show(
        f"{name} is in {shown}: {', '.join(sorted(files))}\n\n"
        f"cd {shown}\n"
        f"taktora-trio run {module}:deployment --mode in-process   # one process, until Ctrl-C\n"
        f"taktora-trio run {module}:deployment --mode split        # the gateway in a process of its own\n"
        f"pytest    # the app's test; needs: pip install 'taktora-trio[testing]'\n\n"
        "README.md says more."
    )
    return 0


def project_files(name: str, protocol: str = PROTOCOLS[0]) -> Mapping[str, str]:
    """Return the texts of a project's files by their paths. Raises `ConfigError` for a name that can't be one."""
    if protocol not in PROTOCOLS:
        raise ConfigError(f"'{escaped(protocol)}' is no protocol that there is: {', '.join(PROTOCOLS)}")
    module = _module(name)
    words = {"name": name, "module": module}
    for word, text in tomllib.loads((_WORDS / f"{protocol}.toml").read_text(encoding="utf-8")).items():
        words[word] = Template(text).substitute(words)
    return {
        path.format(**words): Template((_TEMPLATES / f"{template}.template").read_text(encoding="utf-8")).substitute(
            words
        )
        for template, path in _FILES.items()
    }


def _module(name: str) -> str:
    """Return the name of the project's module. Raises `ConfigError` where there can be none."""
    if not re.fullmatch(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*", name):
        raise ConfigError(
            f"'{escaped(name)}' can't be a project's name: use lower case letters, digits, - and _, as boiler-room"
        )
    check_name("deployment", name)
    module = name.replace("-", "_")
    if keyword.iskeyword(module):
        raise ConfigError(f"{name} is a word of Python's: choose another name")
    if module in sys.stdlib_module_names or module in ("tests", "examples", "supervisors") or _installed(module):
        raise ConfigError(f"there is a module {module} already, which the project's would hide: choose another name")
    return module


def _installed(module: str) -> bool:
    """Return whether a package of that name is installed. What lies in this very folder is none."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None and Path(spec.origin).parent != Path.cwd()


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Write all of it, or nothing."""
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise ConfigError(
            f"{in_shell(folder)} is there already: nothing was written; choose another name, or --to FOLDER"
        )

    def make(project: Path) -> None:
        for path, text in files.items():
            file = project / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    fill(folder, make)
