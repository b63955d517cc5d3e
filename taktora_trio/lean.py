"""Imports the libraries that every program of ours has, without what they import and a program may never use.

Each of these would otherwise be in every process (Python 3.11; a run has three of them):

- `ssl`, `hmac`: OpenSSL, 5 MB of resident memory. trio imports them for streams with TLS. A gateway that has TLS uses
  them; no app and no supervisor does.
- `ctypes.util`: 0.7 MB, with `shutil`, `tempfile` and three compression libraries. trio asks it for the library of
  threads, by which it names its worker threads; and it asks by starting a program (ldconfig), in each process.
- `idna`, `ipaddress`, `locale`: 0.9 MB. trio encodes host names by the first where they are not ASCII; `urllib.parse`
  and `subprocess` use the others in rare cases.
- `flatbuffers`: 0.2 MB, and numpy wherever that is installed, 25 MB. iceoryx2 imports it for a kind of payload that is
  not ours.
- `typing_extensions`: 0.5 MB. msgspec takes the same names from `typing` where it is missing.
- `ast`: 0.5 MB. `inspect` looks with it for the source of a class.

While a library is imported, something that stands for such a module is in the place of each. Only that library has it
then; it imports the module when something of it is first asked for. For everybody else, `import ssl` is what it was.
A program that imports the package as a library is left alone; the programs of the package import this module first.
"""

from __future__ import annotations

import contextlib
import ctypes
import linecache
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

__all__ = ["Later", "missing", "putting_off"]


class Later(ModuleType):
    """Stands for a module, which is imported when something of it is first asked for."""

    def __getattr__(self, name: str) -> object:
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
def _naming_threads_without_a_search() -> Iterator[None]:
    """Answer what `ctypes.util.find_library("pthread")` would find where the C library is glibc.

    Elsewhere there is no such library, and trio's worker threads have no names.
    """
    with putting_off("ctypes.util"):
        found = sys.modules["ctypes.util"]
        if isinstance(found, Later):
            vars(found)["find_library"] = {"pthread": "libpthread.so.0"}.get
            ctypes.util = found
        try:
            yield
        finally:
            if getattr(ctypes, "util", None) is found and isinstance(found, Later):
                del ctypes.util


@contextlib.contextmanager
def _deriving_from_ast() -> Iterator[None]:
    """Put `ast` off, from whose visitor of nodes `inspect` derives a class when it is imported.

    That class gets the real base when it first visits something (before Python 3.13, `inspect.getsource` of a class).
    """

    class NodeVisitor:
        def visit(self, node: object) -> object:
            for derived in NodeVisitor.__subclasses__():
                derived.__bases__ = (import_module("ast").NodeVisitor,)
            return self.visit(node)  # now the real one

    with putting_off("ast"):
        if isinstance(standing := sys.modules["ast"], Later):
            vars(standing)["NodeVisitor"] = NodeVisitor
        try:
            yield
        finally:
            vars(standing).pop("NodeVisitor", None) if isinstance(standing, Later) else None


@contextlib.contextmanager
def _hinting(name: str, hint: str) -> Iterator[None]:
    """Put a module off of which a name stands in type hints, which are looked at when they are made."""
    with putting_off(name):
        if not isinstance(standing := sys.modules[name], Later):
            yield
            return
        vars(standing)[hint] = object
        try:
            yield
        finally:
            del vars(standing)[hint]  # whoever calls it gets the module's own


if "trio" not in sys.modules:
    with (
        putting_off("ssl", "hmac", "idna", "ipaddress", "locale"),
        _deriving_from_ast(),
        _naming_threads_without_a_search(),
    ):
        import trio  # noqa: F401 - imported so, for all
if "msgspec" not in sys.modules:
    with missing("typing_extensions"):
        import msgspec  # noqa: F401 - imported so, for all
if "iceoryx2" not in sys.modules:
    with _hinting("flatbuffers", "Builder"):
        import_module("iceoryx2")  # by its name, for only transport/ may use it
linecache.clearcache()  # attrs has kept the source of each method that it has made; the next imports get that memory
