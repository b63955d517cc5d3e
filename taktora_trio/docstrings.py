"""Imports libraries without their long docstrings, which no program reads, and which are a tenth of what imports make.

`python -OO` leaves them out of everything, and with them each `assert`, also those of the app. Here they go as a
module's code is loaded: nobody else's docstrings do, nothing is written to disk, and assertions stay.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from types import CodeType

__all__ = ["leaving_docstrings_out", "without_docstrings"]

_LONG = 100
"""Characters. No code has such a text in it for another reason and the same as its docstring: then they are one."""
_CO_NEWLOCALS, _CO_HAS_DOCSTRING = 0x2, 0x4000000  # inspect.CO_NEWLOCALS; the other is there since Python 3.14
_OF_A_CLASS = ("__name__", "__module__", "__qualname__", "__doc__")
"""The names that the code of a class with a docstring uses first, until Python 3.12. Later, its docstring stays."""


@contextlib.contextmanager
def leaving_docstrings_out() -> Iterator[None]:
    """Do so for what is imported in the block from a source file (or its bytecode)."""
    get_code = SourceFileLoader.get_code

    def get_shortened(self: SourceFileLoader, fullname: str) -> CodeType | None:
        code = get_code(self, fullname)
        return None if code is None else without_docstrings(code)

    SourceFileLoader.get_code = get_shortened  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        SourceFileLoader.get_code = get_code  # type: ignore[method-assign]


def without_docstrings(code: CodeType) -> CodeType:
    """Return code whose long docstrings, and those of all in it, are `None`."""
    old = code.co_consts
    new: list[object] | None = None
    for index, value in enumerate(old):
        if type(value) is CodeType and (shortened := without_docstrings(value)) is not value:
            if new is None:
                new = list(old)
            new[index] = shortened
    if (docstring := _docstring(code)) is not None:
        if new is None:
            new = list(old)
        new[docstring] = None
    return code if new is None else code.replace(co_consts=tuple(new))


def _docstring(code: CodeType) -> int | None:
    """Return which constant is the docstring, if there is one and it is long."""
    constants, names = code.co_consts, code.co_names
    index: int | None
    if code.co_flags & _CO_NEWLOCALS:
        if sys.version_info >= (3, 14):
            index = 0 if code.co_flags & _CO_HAS_DOCSTRING else None
        else:  # a function without one has `None` there; one that is no `def` has no name, and no docstring
            index = None if code.co_name.startswith("<") else 0
    elif names[:4] == _OF_A_CLASS:
        index = 1
    else:
        index = 0 if names[:1] == ("__doc__",) else None  # a module's
    if index is None or len(constants) <= index:
        return None
    value = constants[index]
    return index if isinstance(value, str) and len(value) > _LONG else None
