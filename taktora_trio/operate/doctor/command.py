"""The command `taktora-trio doctor`: imported when it is asked for. Its help is in `cli`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Annotated

import trio
from cyclopts import Parameter

from taktora_trio.errors import ConfigError
from taktora_trio.operate.doctor.examination import examine
from taktora_trio.operate.doctor.report import as_json, as_text, count
from taktora_trio.runners.command.half import read_for_gateway
from taktora_trio.runners.options import Options, TypedSettings
from taktora_trio.runners.this_process.outcome import printing_aside, show, show_document

__all__ = ["doctor"]

What = Annotated[
    str | None, Parameter(help="The app, as MODULE:DEPLOYMENT; without it only this machine is looked at.")
]


def doctor(
    target: What = None,
    /,
    *,
    json: Annotated[bool, Parameter(negative="", help="As JSON: each finding with its remedy.")] = False,
    try_: Annotated[
        str | None,
        Parameter(name="--try", help="Send messages to this topic, which nobody uses, and see that they come back."),
    ] = None,
    options: Annotated[Options, Parameter(name="*")] = Options(),
    settings: Annotated[TypedSettings, Parameter(parse=False)],
) -> int:
    """Look at all that a run needs. Exit code 1 if something fails."""
    configuration = None
    if target is not None:
        with printing_aside():
            configuration = read_for_gateway(target, options, settings)
    elif given := [*(["try"] if try_ is not None else []), *(name for name, _ in (*options.typed, *settings))]:
        raise ConfigError(f"--{given[0]} is for a deployment: name it, as MODULE:DEPLOYMENT")
    with _without_log():
        sections = trio.run(examine, configuration, try_)
    if json:
        show_document(as_json(sections))
    else:
        show(as_text(sections))
    return 1 if count(sections, "fail") else 0


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Keep what sessions log from the terminal: the findings say it."""
    logger = logging.getLogger("taktora_trio")
    handler, propagates = logging.NullHandler(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)
