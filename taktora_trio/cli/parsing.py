"""From a command line to the command that it stands for.

Options that a command does not know itself are settings of the deployment's connectors. They are taken out before the
rest is parsed, and judged once the deployment is loaded (`runners/configuration/meant.py`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from cyclopts import CycloptsError

from taktora_trio.cli.command import app
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.command.typed import without_settings
from taktora_trio.runners.options import OWN_OPTIONS, Shape
from taktora_trio.runners.secrets import hide_secrets
from taktora_trio.runners.this_process.outcome import call, show
from taktora_trio.runners.this_process.surroundings import settle

__all__ = ["main", "parse"]

_TARGET = re.compile(r"[\w.]+:\w+")
_LONGEST = 1000  # characters of what the parser says


def main(*first: str, shape: Shape | None = None) -> NoReturn:
    """The command's entry point; `first` comes before what stands on the command line.

    A `shape` is what `run` is to run, for a script that composes one of its own. Bad input ends it with one clear line
    and exit code 2.
    """
    sys.exit(call(lambda: _parse_and_run(first, shape)))


def parse(arguments: Sequence[str], shape: Shape | None = None) -> Callable[[], int | None]:
    """Return the command that these arguments stand for, ready to be called. Raises `ConfigError`."""
    own, settings = without_settings(arguments)
    try:
        command, bound, unparsed = app.parse_args(own, exit_on_error=False, print_error=False)
    except CycloptsError as exc:
        unknown = ", ".join(f"--{name}" for name, _ in settings)
        perhaps = f" (taken for settings of connectors, with a value each: {unknown})" if settings else ""
        raise ConfigError(escaped(f"{exc}{perhaps}", _LONGEST)) from exc
    given = {name: value for name, value in (("settings", settings), ("shape", shape)) if name in unparsed}

    def perform() -> int | None:
        code: int | None = command(*bound.args, **bound.kwargs, **given)
        if own[:1] and own[0] in OWN_OPTIONS and not unparsed:  # the command was asked for its help
            from taktora_trio.runners.settings_help import settings_help  # only help needs it

            show(settings_help(next((argument for argument in own[1:] if _TARGET.fullmatch(argument)), None)))
        return code

    return perform


def _parse_and_run(first: Sequence[str], shape: Shape | None) -> int | None:
    settle()
    return parse([*first, *hide_secrets(first, sys.argv[1:])], shape)()
