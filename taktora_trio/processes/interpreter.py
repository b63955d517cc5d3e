"""Starting another Python that is like this one: with the same options, and with modules from the same folders.

This one may have been started in ways that a second one would know nothing of: from a zip file, as a script of another
folder, by a program that has changed `sys.path`.
"""

from __future__ import annotations

import json
import os
import signal
import site
import sys
from pathlib import Path
from typing import NoReturn

from taktora_trio.errors import ConfigError
from taktora_trio.startpath import VARIABLE, is_present_folder

__all__ = ["become", "become_interruptible", "environment", "program"]


def program(module: str) -> list[str]:
    """Return the command line that runs a module of ours. Raises `ConfigError` if Python can't be started again."""
    if not sys.executable:
        raise ConfigError(
            "this Python can't start another one, for it does not know its own program (sys.executable is empty):"
            " use --mode in-process"
        )
    # -P: the present folder comes in when the app's module is wanted, and not before ours are imported.
    options = ["-P", *(["-" + "O" * sys.flags.optimize] if sys.flags.optimize else [])]
    options += [f"-W{option}" for option in sys.warnoptions]
    options += [f"-X{name}" if value is True else f"-X{name}={value}" for name, value in sys._xoptions.items()]
    return [sys.executable, *options, "-m", module]


def environment() -> dict[str, str]:
    """Return variables to add to its environment. `startpath` takes them out again there."""
    own = os.environ.get("PYTHONPATH")
    path = [entry for entry in sys.path if isinstance(entry, str)]
    if is_present_folder(path[:1]):  # it comes in again when the app's module is wanted
        path.append(path.pop(0))
    variables = {VARIABLE: json.dumps([path, own])}  # in ASCII, whatever a folder's name is
    # By this it finds our package, from which on it looks where we do.
    root = str(Path(__file__).parent.parent.parent)
    if root not in (*site.getsitepackages(), site.getusersitepackages()):
        variables["PYTHONPATH"] = os.pathsep.join([root, *([own] if own else [])])
    return variables


def become(module: str, *arguments: str) -> NoReturn:
    """Replace this process by one that runs a module of ours. Raises `ConfigError` if that can't be done.

    Until that calls `become_interruptible` a SIGINT waits: Ctrl-C while it imports would end it with a traceback.
    """
    command = [*program(module), *arguments]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        os.execve(command[0], command, {**os.environ, **environment()})  # noqa: S606 - no shell is wanted
    except OSError as exc:
        become_interruptible()
        raise ConfigError(f"this Python can't be started again ({command[0]}): {exc.strerror}") from exc


def become_interruptible() -> None:
    """Let SIGINT through, also one that has come since `become`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
