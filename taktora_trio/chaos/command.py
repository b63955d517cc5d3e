"""The command `taktora-trio chaos`. It is only imported when it is asked for."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from taktora_trio.chaos.options import ChaosOptions
from taktora_trio.errors import missing_extra

__all__ = ["chaos"]


def chaos(
    *,
    list_: Annotated[
        bool, Parameter(name="--list", negative="", help="Show every kind of fault, and bring about none.")
    ] = False,
    options: Annotated[ChaosOptions, Parameter(name="*")] = ChaosOptions(),  # noqa: B008 - it is frozen
) -> int:
    """Break a deployment in every known way, and check after each fault that what was promised held.

    It starts a broker of its own (or what the protocol has in its place, such as a router), a TCP proxy in front of it
    that can fail as a network does, and `taktora-trio run` with an app that ticks every 10 ms and publishes numbers.
    Then faults follow one another as the seed says: processes killed, hung or stopped, the broker gone or hostile, the
    connection cut, slow or dead, channels and /dev/shm full, gateways that are wrong in themselves.

    After each fault: the app ticked on, its health told what happened and is Up again, no number is missing or out of
    order at an independent subscriber, and no process or file is left over. If any of this does not hold, it says so,
    shows the last log lines and how to see it again, and ends with exit code 1.

    Filling /dev/shm is only done to one of its own, in a mount namespace. Where that can't be had it is left out.
    """
    try:
        import rich  # noqa: F401 - for the report
    except ModuleNotFoundError as exc:
        raise missing_extra("taktora-trio chaos", "rich", "chaos") from exc
    from taktora_trio.chaos.runner import list_faults, run_chaos  # all that it takes to run is imported to run

    if list_:
        print(list_faults())  # noqa: T201 - its result
        return 0
    return run_chaos(options, sys.argv[1:])
