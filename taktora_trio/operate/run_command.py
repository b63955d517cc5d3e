"""The commands `revive`, `reload` and `healthcheck`, which ask a run. Their help is in `cli`.

Each imports its own part when it is called.
"""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from taktora_trio.runners.command.target import Configured, OfRun, RunDomain, domain_of_run
from taktora_trio.runners.options import Half
from taktora_trio.runners.this_process.outcome import show

__all__ = ["healthcheck", "reload", "revive"]


def revive(
    target: OfRun = None,
    /,
    *,
    domain: RunDomain = None,
    config: Configured = None,
) -> int:
    """Revive a gateway."""
    from taktora_trio.runners.parts.revival import ask_to_revive

    show(ask_to_revive(domain_of_run(target, domain, config)))
    return 0


def reload(
    target: OfRun = None,
    /,
    *,
    domain: RunDomain = None,
    config: Configured = None,
) -> int:
    """Reload a configuration."""
    from taktora_trio.operate.reloading import ask_to_reload

    answer = ask_to_reload(domain_of_run(target, domain, config))
    if answer.code:
        for line in answer.lines:
            print(f"taktora-trio: {line}", file=sys.stderr)  # noqa: T201 - for the user
    else:
        show("\n".join(answer.lines))
    return answer.code


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
    max_age: Annotated[float, Parameter(help="Seconds that the last sign of life may be old.")] = 10.0,
    json: Annotated[bool, Parameter(negative="", help="As JSON: `healthy`, and `checks`, a list of lines.")] = False,
) -> int:
    """Check that a run lives, or works."""
    from taktora_trio.operate.healthcheck import check

    return check(domain_of_run(target, domain, config), half, max_age, ready, json)
