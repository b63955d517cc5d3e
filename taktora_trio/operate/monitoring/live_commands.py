"""The commands `top`, `hz` and `echo`: imported when they are asked for. Their help is in `cli`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from taktora_trio.errors import ConfigError, check_library
from taktora_trio.recorder.command import run_and_channels
from taktora_trio.runners.command.target import Configured, OfRun, RunDomain
from taktora_trio.runners.command.the_run import the_run
from taktora_trio.runners.loading import load_deployment
from taktora_trio.runners.options import check_seconds
from taktora_trio.runners.this_process.outcome import printing_aside

__all__ = ["echo", "hz", "top"]

_SHORTEST, _LONGEST = 0.1, 3600.0
What = Annotated[
    str, Parameter(help="The app that runs, as MODULE:DEPLOYMENT, if it is not the only one; and channels, or all.")
]
Every = Annotated[float, Parameter(help="Seconds from one look to the next.")]
For = Annotated[float | None, Parameter(name="--for", help="Stop after so many seconds.")]


def top(
    target: OfRun = None,
    /,
    *,
    domain: RunDomain = None,
    config: Configured = None,
    every: Every = 1.0,
    frames: Annotated[int | None, Parameter(help="Print so many frames, one below the other, and end.")] = None,
) -> int:
    """Show a run, live."""
    _check_interval(every)
    if frames is not None and frames < 1:
        raise ConfigError(f"--frames {frames}: give at least 1")
    check_library("`taktora-trio top`", "rich", "rich", "operate")
    from taktora_trio.operate.monitoring.top import run_top

    return run_top(the_run(target, domain, config), every, frames)


def hz(
    *what: What,
    domain: RunDomain = None,
    config: Configured = None,
    every: Every = 1.0,
    for_: For = None,
    json: Annotated[bool, Parameter(negative="", help="As JSON, an object a line, with times in seconds.")] = False,
) -> int:
    """Show how often messages come."""
    from taktora_trio.operate.monitoring.hz import run_hz

    _check_interval(every)
    check_seconds(for_)
    target, channels = run_and_channels(what)
    return run_hz(the_run(target, domain, config), channels, every, for_, json)


def echo(
    *what: What,
    domain: RunDomain = None,
    config: Configured = None,
    count: Annotated[int | None, Parameter(help="End after so many messages.")] = None,
    for_: For = None,
    json: Annotated[
        bool, Parameter(negative="", help="As JSON, a message a line, with its metadata; bytes in base64.")
    ] = False,
) -> int:
    """Show messages."""
    from taktora_trio.operate.monitoring.echo import run_echo

    check_seconds(for_)
    if count is not None and count < 1:
        raise ConfigError(f"--count {count}: give at least 1")
    target, channels = run_and_channels(what)
    run = the_run(target, domain, config)
    with printing_aside():
        deployment = None if target is None else load_deployment(target)
    return run_echo(run, channels, deployment, count=count, seconds=for_, json=json)


def _check_interval(every: float) -> None:
    if not _SHORTEST <= every <= _LONGEST:
        raise ConfigError(f"--every {every:g}: give {_SHORTEST:g} to {_LONGEST:g} seconds")
