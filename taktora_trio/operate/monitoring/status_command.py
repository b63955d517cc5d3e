"""The commands `status` and `ps`: imported when they are asked for. Their help is in `cli`."""

from __future__ import annotations

import time
from typing import Annotated

from cyclopts import Parameter

from taktora_trio import vitals
from taktora_trio.operate.monitoring import ps as of_all
from taktora_trio.operate.monitoring import status as of_one
from taktora_trio.runners.command.target import Configured, OfRun, RunDomain
from taktora_trio.runners.command.the_run import the_run
from taktora_trio.runners.this_process.outcome import show, show_document
from taktora_trio.vitals.reading import nothing_runs

__all__ = ["ps", "status"]

AsJson = Annotated[bool, Parameter(negative="", help="As JSON, with every figure.")]


def status(
    target: OfRun = None, /, *, domain: RunDomain = None, config: Configured = None, json: AsJson = False
) -> int:
    """Show a run, once."""
    reading = vitals.read(the_run(target, domain, config))
    if json:
        show_document(of_one.as_json(reading))
    else:
        show("\n".join(of_one.as_lines(reading, time.time())))
    return 0 if reading.is_well else 1


def ps(*, json: AsJson = False) -> int:
    """List all runs."""
    found = list(of_all.runs())
    if json:
        show_document(of_all.as_json(found))
    elif not found:
        show(nothing_runs())
    else:
        show("\n".join(of_all.as_lines(found)))
    return 0
