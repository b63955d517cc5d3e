"""Libraries that are loaded without their docstrings: what goes, and that nothing else does."""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import CodeType

import pytest

from taktora_trio.docstrings import leaving_docstrings_out, without_docstrings

LONG = (
    "A text of which nobody would say that it is short, since it goes on and on, to the end of its line, and beyond it."
)
LOADS = ("LOAD_CONST", "RETURN_CONST")
SOURCE = f'''"""{LONG} (module)"""

LAST = "{LONG} (no docstring)"


def function(value):
    """{LONG} (function)"""
    assert value, "{LONG} (assertion)"
    return [lambda: "{LONG} (value)" for _ in "1"]


def brief():
    """Short."""
    return "{LONG} (value)"


def bare():
    return "{LONG} (value)"


class Kind:
    """{LONG} (class)"""

    text = "{LONG} (text)"

    async def method(self):
        """{LONG} (method)"""


class Bare:
    text = "{LONG} (text)"
'''


def test_long_docstrings_go_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wordy_library.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    for _ in ("from source", "from bytecode"):
        monkeypatch.delitem(sys.modules, "wordy_library", raising=False)
        with leaving_docstrings_out():
            import wordy_library  # type: ignore[import-not-found]
        library = wordy_library
        assert (library.__doc__, library.function.__doc__, library.Kind.method.__doc__) == (None, None, None)
        if sys.version_info < (3, 13):
            assert library.Kind.__doc__ is None
        assert library.brief.__doc__ == "Short."
        assert vars(library)["LAST"] == f"{LONG} (no docstring)"
        assert library.brief() == library.bare() == library.function(1)[0]() == f"{LONG} (value)"
        assert library.Kind.text == library.Bare.text == f"{LONG} (text)"
        with pytest.raises(AssertionError, match="assertion"):
            library.function(0)
        assert inspect.getsource(library.brief).startswith("def brief")
    monkeypatch.delitem(sys.modules, "wordy_library")
    import wordy_library as whole

    assert whole.function.__doc__ == f"{LONG} (function)", "nobody else's docstrings go, and none on disk"


@pytest.mark.parametrize("name", ["trio", "attr", "msgspec", "iceoryx2", "sortedcontainers"])
def test_no_docstring_of_a_library_is_used_in_its_function(name: str) -> None:
    """A function that had its docstring's text in its body, too, would have one constant for both."""
    where = import_module(name).__file__
    assert where is not None
    changed = 0
    for path in sorted(path for path in Path(where).parent.rglob("*.py") if "_tests" not in path.parts):
        for code in _all(compile(path.read_text(), path, "exec")):
            shortened = without_docstrings(code)
            gone = {index for index, value in enumerate(shortened.co_consts) if value is None and code.co_consts[index]}
            used = [each.arg for each in dis.get_instructions(code) if each.opname in LOADS and each.arg in gone]
            assert len(used) <= (0 if code.co_flags & inspect.CO_NEWLOCALS else 1), f"{path}: {code.co_qualname}"
            changed += len(gone)
    assert changed


def _all(code: CodeType) -> Iterator[CodeType]:
    yield code
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _all(value)
