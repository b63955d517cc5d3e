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
- `inspect`, with `ast` and `dis`: 1 MB. attrs asks it for the types of converters, trio whether a value is a coroutine.
- `unicodedata`, `platform`: 0.2 MB. attrs and `uuid` use the first for names that are not ASCII, the second once.
- `attrs.validators`: 0.3 MB. attrs imports it for whoever uses it, which is `outcome` alone, for one check.
- `trio._dtls`, `trio._ssl`, much of `trio_util` with `async_generator`: 0.5 MB. Their packages export names of theirs.
- `msgspec.inspect` and its JSON schemas: 0.2 MB. Channels of JSON look at types with the first.

`later.py` says how: while a library is imported, something stands for such a module. For everybody else, `import ssl`
is what it was. Nor does attrs keep the sources of the methods that it makes, 5 KB a class, which debuggers would show;
and these libraries are loaded without their docstrings (`docstrings.py`), 0.6 MB.
A program that imports the package as a library is left alone; the programs of the package import this module first.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from types import AsyncGeneratorType, CoroutineType, FunctionType, SimpleNamespace
from typing import Any

from taktora_trio.docstrings import leaving_docstrings_out
from taktora_trio.later import Later, exporting_later, hinting, lending, missing, putting_off

__all__: list[str] = []


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


def _instance_of(kind: type) -> Callable[[object, Any, object], None]:
    """Stands for the validator by which `outcome` checks that an exception is one."""

    def check(_: object, attribute: Any, value: object) -> None:
        if not isinstance(value, kind):
            raise TypeError(f"'{attribute.name}' must be {kind!r} (got {value!r} that is a {type(value)!r})")

    return check


class _Forgetting(dict[str, object]):
    """Stands for the cache of sources in which attrs keeps those of the methods that it makes."""

    def setdefault(self, _: str, source: object = None) -> object:
        return source


class _Empty:
    """Stands for `inspect.Parameter.empty`."""


def _signature(function: object) -> object:
    """Return of a signature what attrs asks for: the types of the arguments and of what is returned."""
    if not isinstance(function, FunctionType) or not function.__code__.co_argcount or vars(function):
        return import_module("inspect").signature(function)  # a class, or one that says that it is another
    types, code = function.__annotations__, function.__code__
    names = code.co_varnames[: code.co_argcount]
    return SimpleNamespace(
        parameters={name: SimpleNamespace(annotation=types.get(name, _Empty)) for name in names},
        return_annotation=types.get("return", _Empty),
    )


def _coroutine_state(coroutine: CoroutineType[Any, Any, Any]) -> str:
    if coroutine.cr_running:
        return "CORO_RUNNING"
    if coroutine.cr_suspended:
        return "CORO_SUSPENDED"
    return "CORO_CLOSED" if coroutine.cr_frame is None else "CORO_CREATED"


# What attrs and trio use of `inspect`: some as they are imported, some for each thread and lock.
_OF_INSPECT = {
    "signature": _signature,
    "Parameter": SimpleNamespace(empty=_Empty),
    "Signature": SimpleNamespace(empty=_Empty),
    "cleandoc": lambda text: text,
    "iscoroutine": lambda value: isinstance(value, CoroutineType),
    "isasyncgen": lambda value: isinstance(value, AsyncGeneratorType),
    "getcoroutinestate": _coroutine_state,
    "CORO_CLOSED": "CORO_CLOSED",
}


with leaving_docstrings_out():
    with (
        lending("inspect", **_OF_INSPECT),
        putting_off("attrs.validators"),
        hinting("attr.validators", instance_of=_instance_of),
    ):
        if "attrs" not in sys.modules:
            with (
                lending("linecache", cache=_Forgetting()),
                hinting("platform", python_implementation=lambda: sys.implementation.name.replace("cp", "CP")),
                putting_off("unicodedata"),
            ):
                import attrs  # noqa: F401 - imported so, for all
        if "trio" not in sys.modules:
            with (
                putting_off("ssl", "hmac", "idna", "ipaddress", "locale"),
                exporting_later(
                    "trio",
                    {
                        "trio._dtls": ("DTLSChannel", "DTLSChannelStatistics", "DTLSEndpoint"),
                        "trio._ssl": ("NeedHandshakeError", "SSLListener", "SSLStream"),
                    },
                ),
                _naming_threads_without_a_search(),
            ):
                import trio  # noqa: F401 - imported so, for all
    if "trio_util" not in sys.modules:
        with exporting_later(
            "trio_util",
            {
                "trio_util._async_itertools": ("azip", "azip_longest"),
                "trio_util._compose_values": ("compose_values",),
                "trio_util._exceptions": ("defer_to_cancelled", "multi_error_defer_to"),
                "trio_util._iterators": ("iter_fail_after", "iter_move_on_after"),
                "trio_util._periodic": ("periodic",),
                "trio_util._task_stats": ("TaskStats",),
                "trio_util._trio_async_generator": ("trio_async_generator",),
            },
        ):
            import trio_util  # noqa: F401 - imported so, for all
    if "msgspec" not in sys.modules:
        with (
            missing("typing_extensions"),
            hinting("platform", system=lambda: os.uname().sysname),
            putting_off("msgspec.inspect"),
            exporting_later(
                "msgspec.json", {"msgspec._json_schema": ("schema", "schema_components")}, as_its_own=False
            ),
        ):
            import msgspec  # noqa: F401 - imported so, for all
    if "iceoryx2" not in sys.modules:
        with hinting("flatbuffers", Builder=object):  # it stands in type hints, which are looked at when they are made
            import_module("iceoryx2")  # by its name, for only transport/ may use it
