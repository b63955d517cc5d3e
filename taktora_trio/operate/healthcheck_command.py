"""The command `healthcheck`, as the parser has it. Its help is in `cli`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from taktora_trio.operate.healthcheck import MAX_AGE, check
from taktora_trio.runners.command.target import Configured, OfRun, RunDomain, domain_of_run
from taktora_trio.runners.options import Half

__all__ = ["healthcheck"]


def healthcheck(
    target: OfRun = None,
    /,
    *,
    domain: RunDomain = None,
    config: Configured = None,
    half: Annotated[Half | None, Parameter(help="Only this half; by default all of the run.")] = None,
    ready: Annotated[
        bool, Parameter(negative="", help="Messages have to be able to pass, too: each connector is Up, or Degraded.")
    ] = False,
    max_age: Annotated[float, Parameter(help="Seconds that the last sign of life may be old.")] = MAX_AGE,
    json: Annotated[bool, Parameter(negative="", help="As JSON: `healthy`, and `checks`, a list of lines.")] = False,
) -> int:
    """Check that a run lives, or works."""
    return check(domain_of_run(target, domain, config), half, max_age, ready, json)
