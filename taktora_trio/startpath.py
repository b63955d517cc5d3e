"""The path on which a program of ours looks for modules, put right before it imports anything else.

- `python -m taktora_trio` has put the present folder before all others. It comes last until the app's module is wanted,
  so that a file there with the name of one of Python's own modules does not get into our imports.
- An interpreter that was started by one of ours (`processes/interpreter.py`) looks where that one did.

A program that imports the package as a library keeps its path.
"""

from __future__ import annotations

import os
import sys

__all__ = ["VARIABLE", "is_present_folder"]

VARIABLE = "TAKTORA_PATH"
"""The path to search, and the PYTHONPATH of the user, for an interpreter that is started by one of ours."""


def _is_started_by_name() -> bool:
    """True if it was `python -m`, with a module of this package. (The program's name is `-m` then.)"""
    if sys.argv[:1] != ["-m"]:
        return False
    try:
        name = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    except (ValueError, IndexError):
        return False
    return name.partition(".")[0] == __name__.partition(".")[0]


def is_present_folder(entries: list[str]) -> bool:
    """True if this is one entry of a path that stands for the present folder."""
    try:
        return entries in ([""], [os.getcwd()])  # noqa: PTH109 - as it stands in sys.path
    except OSError:  # it was removed
        return False


def _take_over(inherited: str) -> None:
    import json  # Python's own: the one that has started us has also kept the present folder out of the path

    try:
        path, pythonpath = json.loads(inherited)
        sys.path[:] = map(str, path)
    except (ValueError, TypeError):
        return  # it is not from one of ours
    if isinstance(pythonpath, str):
        os.environ["PYTHONPATH"] = pythonpath
    else:
        os.environ.pop("PYTHONPATH", None)


if (_inherited := os.environ.pop(VARIABLE, None)) is not None:
    _take_over(_inherited)
elif _is_started_by_name() and not sys.flags.safe_path and is_present_folder(sys.path[:1]):
    sys.path.append(sys.path.pop(0))
