"""From a deployment back to its name: another process imports it from there."""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.deployment import Deployment

__all__ = ["name_of"]

_OTHERWISE = 'declare it in a module of its own, and give its name, as "greenhouse:deployment"'


def name_of(deployment: Deployment) -> str:
    """Return MODULE:NAME by which another process finds this very deployment.

    It is looked for in the modules that this process has imported, and last in the program itself, which is then
    imported by the name of its file. Raises `ConfigError` if it can't be found there.
    """
    names = list(_names_of(deployment))
    for module, attribute in names:
        if module != "__main__":
            return f"{module}:{attribute}"
    if not names:
        raise ConfigError(
            f"deployment {deployment.name!r} is no attribute of a module, by which the other process could find it:"
            f" write `deployment = Deployment(...)` at the top of a module; or {_OTHERWISE}"
        )
    return f"{_program(deployment)}:{names[0][1]}"


def _names_of(deployment: Deployment) -> Iterator[tuple[str, str]]:
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is deployment:
                yield name, attribute


def _program(deployment: Deployment) -> str:
    """Return the name by which the program itself can be imported."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return str(spec.name)  # `python -m NAME`
    file = getattr(main, "__file__", None)
    if file is None or spec is not None:
        raise ConfigError(
            f"deployment {deployment.name!r} is in a program that is no file, and can't be imported by another process:"
            f" {_OTHERWISE}"
        )
    path = Path(file).absolute()
    found = _found_as(path.stem)
    if path.suffix != ".py" or found is None or not found.exists() or not found.samefile(path):
        instead = "" if found is None else f" (that name stands for {escaped(str(found), 400)})"
        raise ConfigError(
            f"deployment {deployment.name!r} is in {escaped(str(path), 400)}, which another process can't import as"
            f" {escaped(path.stem)}{instead}: {_OTHERWISE}"
        )
    return path.stem


def _found_as(name: str) -> Path | None:
    """Return the file of a module of this name, as the other process looks for it: first in the present folder."""
    if "." in name:
        return None
    loaded: ModuleType | None = sys.modules.get(name)
    if name in sys.builtin_module_names or name == "taktora_trio":
        return Path(getattr(loaded, "__file__", None) or "built into Python")
    spec = importlib.machinery.PathFinder.find_spec(name, [os.getcwd(), *sys.path])  # noqa: PTH109 - as it stands there
    return None if spec is None or spec.origin is None else Path(spec.origin)
