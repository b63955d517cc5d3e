"""Where a program of ours looks for modules, put right before it imports anything else.

- `python -m taktora_trio` has put the present folder before all others. It comes last until the app's module is wanted,
  so that a file there with the name of one of Python's own modules does not get into our imports.
- An interpreter that was started by one of ours (supervision/interpreter.py) looks where that one did.

Whoever imports the package as a library is left alone.
"""

from __future__ import annotations

import os
import sys

__all__ = ["VARIABLE", "is_present_folder"]

VARIABLE = "TAKTORA_PATH"
"""The path to search, and the PYTHONPATH of the user, for an interpreter that is started by one of ours."""


def _is_started_by_name() -> bool:
    """Whether it was `python -m`, with a module of this package; `-m` is then what stands for the program's name."""
    if sys.argv[:1] != ["-m"]:
        return False
    try:
        name = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    except (ValueError, IndexError):
        return False
    return name.partition(".")[0] == __name__.partition(".")[0]


def is_present_folder(entries: list[str]) -> bool:
    """Whether this is one entry of a path, and stands for the present folder."""
    try:
        return entries in ([""], [os.getcwd()])  # noqa: PTH109 - as it stands in sys.path
    except OSError:  # it was removed
        return False


def _take_over(told: str) -> None:
    import json  # Python's own: whoever has told us this has also seen to it that the present folder is not in the path

    try:
        path, pythonpath = json.loads(told)
        sys.path[:] = map(str, path)
    except (ValueError, TypeError):
        return  # it is not from one of ours
    if isinstance(pythonpath, str):
        os.environ["PYTHONPATH"] = pythonpath
    else:
        os.environ.pop("PYTHONPATH", None)


if (_told := os.environ.pop(VARIABLE, None)) is not None:
    _take_over(_told)
elif _is_started_by_name() and not sys.flags.safe_path and is_present_folder(sys.path[:1]):
    sys.path.append(sys.path.pop(0))
