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
- `attrs.validators`: 0.3 MB. attrs imports it for whoever uses it, which is `outcome` alone, for one check.
- `trio._dtls`, and much of `trio_util` with `async_generator`: 0.4 MB. Their packages export names of theirs.

While a library is imported, something that stands for such a module is in the place of each. Only that library has it
then; it imports the module when something of it is first asked for. For everybody else, `import ssl` is what it was.
A program that imports the package as a library is left alone; the programs of the package import this module first.
"""

from __future__ import annotations

import contextlib
import ctypes
import linecache
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

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
def _hinting(name: str, **used: object) -> Iterator[None]:
    """Put a module off of which this is used by what is imported in the block. All else, and all later, is its own."""
    with putting_off(name):
        standing = sys.modules[name]
        if not isinstance(standing, Later):
            yield
            return
        vars(standing).update(used)
        try:
            yield
        finally:
            for each in used:
                del vars(standing)[each]


class _NodeVisitor:
    """Stands for `ast.NodeVisitor`, from which `inspect` derives a class (before Python 3.13), for a class's source."""

    def visit(self, node: object) -> object:
        """Give each derived class the real base, at the first use of one; then visit."""
        real = import_module("ast").NodeVisitor
        for derived in _NodeVisitor.__subclasses__():
            derived.__bases__ = (real,)
        return self.visit(node)


def _instance_of(kind: type) -> Callable[[object, Any, object], None]:
    """Stands for the validator by which `outcome` checks that an exception is one."""

    def check(_: object, attribute: Any, value: object) -> None:
        if not isinstance(value, kind):
            raise TypeError(f"'{attribute.name}' must be {kind!r} (got {value!r} that is a {type(value)!r})")

    return check


@contextlib.contextmanager
def _leaving(package: str, **exported: tuple[str, ...]) -> Iterator[None]:
    """For `package`, which is imported in the block, put these submodules off, from which it exports these names.

    The package has each name nevertheless, and takes it from the submodule when it is first asked for.
    """
    standing = {name: type(name, (), {}) for names in exported.values() for name in names}
    with contextlib.ExitStack() as stack:
        for submodule, names in exported.items():
            # `from MODULE import` looks for the module's path as well.
            used = {name: standing[name] for name in names}
            stack.enter_context(_hinting(f"{package}.{submodule}", **used, __path__=[]))
        yield
    imported = sys.modules[package]
    where = {
        name: f"{package}.{submodule}"
        for submodule, names in exported.items()
        for name in names
        if vars(imported).get(name) is standing[name]  # not if another version has it elsewhere
    }
    for name in where:
        delattr(imported, name)

    def find(name: str) -> object:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(where[name]), name)
        value.__module__ = package  # as the package has it for each
        setattr(imported, name, value)
        return value

    vars(imported)["__getattr__"] = find


if "trio" not in sys.modules:
    with (
        putting_off("ssl", "hmac", "idna", "ipaddress", "locale", "attrs.validators"),
        _leaving("trio", _dtls=("DTLSChannel", "DTLSChannelStatistics", "DTLSEndpoint")),
        _hinting("ast", NodeVisitor=_NodeVisitor),
        _hinting("attr.validators", instance_of=_instance_of),
        _naming_threads_without_a_search(),
    ):
        import trio  # noqa: F401 - imported so, for all
if "trio_util" not in sys.modules:
    with _leaving(
        "trio_util",
        _async_itertools=("azip", "azip_longest"),
        _compose_values=("compose_values",),
        _exceptions=("defer_to_cancelled", "multi_error_defer_to"),
        _iterators=("iter_fail_after", "iter_move_on_after"),
        _periodic=("periodic",),
        _task_stats=("TaskStats",),
        _trio_async_generator=("trio_async_generator",),
    ):
        import trio_util  # noqa: F401 - imported so, for all
if "msgspec" not in sys.modules:
    with missing("typing_extensions"):
        import msgspec  # noqa: F401 - imported so, for all
if "iceoryx2" not in sys.modules:
    with _hinting("flatbuffers", Builder=object):  # it stands in type hints, which are looked at when they are made
        import_module("iceoryx2")  # by its name, for only transport/ may use it
linecache.clearcache()  # attrs has kept the source of each method that it has made; the next imports get that memory
