"""Stands for modules while a library is imported that imports them, and may never use them.

Only that library has the one that stands there; it imports the module when something of it is first asked for. For
everybody else, the import of that module is what it was.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType

__all__ = ["Later", "exporting_later", "hinting", "lending", "missing", "putting_off"]


class Later(ModuleType):
    """Stands for a module, which is imported when something of it is first asked for. No package has one."""

    def __getattr__(self, name: str) -> object:
        if name == "__path__":  # `from MODULE import` looks whether it is a package
            raise AttributeError(name)
        _take_back(self)
        value = getattr(import_module(self.__name__), name)
        setattr(self, name, value)  # so that it is asked for once: TLS asks for each piece that it reads
        return value


@contextlib.contextmanager
def putting_off(*names: str) -> Iterator[None]:
    """For what is imported in the block, import these modules when they are first used; unless they are there already.

    Not for one of which something is used at once: that would only be one step more.
    """
    standing = [Later(name) for name in names if name not in sys.modules]
    for module in standing:
        sys.modules[module.__name__] = module
    try:
        yield
    finally:
        for module in standing:
            _take_back(module)


def _take_back(module: Later) -> None:
    if sys.modules.get(module.__name__) is module:
        del sys.modules[module.__name__]


@contextlib.contextmanager
def lending(name: str, **own: object) -> Iterator[None]:
    """Put a module off of which whoever is imported in the block has these from here, for good."""
    with putting_off(name):
        standing = sys.modules[name]
        if isinstance(standing, Later):
            vars(standing).update(own)
        yield


@contextlib.contextmanager
def hinting(name: str, **used: object) -> Iterator[None]:
    """Put a module off of which this is used by what is imported in the block. All else, and all later, is its own."""
    with lending(name, **used):
        standing = sys.modules[name]
        try:
            yield
        finally:
            if isinstance(standing, Later):
                for each in used:
                    del vars(standing)[each]


@contextlib.contextmanager
def missing(name: str) -> Iterator[None]:
    """For what is imported in the block, have this module not installed; unless it is there already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # as the import system has it for a module that can't be had
    try:
        yield
    finally:
        del sys.modules[name]


@contextlib.contextmanager
def exporting_later(
    package: str, exported: Mapping[str, tuple[str, ...]], *, as_its_own: bool = True
) -> Iterator[None]:
    """For `package`, which is imported in the block, put these modules off, from which it exports these names.

    The package has each name nevertheless, and takes it from the module when it is first asked for; `as_its_own` for
    one whose names all have the package as their module.
    """
    standing = {name: type(name, (), {}) for names in exported.values() for name in names}
    with contextlib.ExitStack() as stack:
        for module, names in exported.items():
            stack.enter_context(hinting(module, **{name: standing[name] for name in names}))
        yield
    imported = sys.modules[package]
    where = {
        name: module
        for module, names in exported.items()
        for name in names
        if vars(imported).get(name) is standing[name]  # not if another version has it elsewhere
    }
    for name in where:
        delattr(imported, name)

    def find(name: str) -> object:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(where[name]), name)
        if as_its_own:
            value.__module__ = package
        setattr(imported, name, value)
        return value

    vars(imported)["__getattr__"] = find
