"""The command `taktora-trio record`: imported when it is asked for. Its help is in `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.recorder.record import Wanted
from taktora_trio.recorder.record import record as record_messages
from taktora_trio.runners.command.target import Configured, RunDomain
from taktora_trio.runners.command.the_run import the_run
from taktora_trio.runners.loading import load_deployment
from taktora_trio.runners.this_process.outcome import printing_aside, show

__all__ = ["record", "run_and_channels"]

What = Annotated[
    str,
    Parameter(help="The app that runs, as MODULE:DEPLOYMENT; and channels, as NAME or CONNECTOR.NAME; all by default."),
]


def record(
    *what: What,
    domain: RunDomain = None,
    config: Configured = None,
    output: Annotated[
        Path | None,
        Parameter(name=["--output", "-o"], help="The new file; by default DOMAIN-TIME.mcap in the present folder."),
    ] = None,
    for_: Annotated[float | None, Parameter(name="--for", help="Stop after so many seconds.")] = None,
    max_bytes: Annotated[int | None, Parameter(help="Stop when the file has so many bytes.")] = None,
) -> int:
    """Record messages."""
    target, channels = run_and_channels(what)
    run = the_run(target, domain, config)
    with printing_aside():
        deployment = None if target is None else load_deployment(target)
    done = record_messages(
        Wanted(domain=run, channels=channels, deployment=deployment, path=output, seconds=for_, most_bytes=max_bytes)
    )
    lost = f"; {done.lost} were lost, as they came faster than they were read" if done.lost else ""
    channels_ = f"{done.channels} channel{'s' * (done.channels != 1)}"
    show(f"{escaped(str(done.path))}: {done.messages} messages of {channels_} ({done.why}){lost}")
    return 0


def run_and_channels(what: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Tell the deployment from channels: their names have no colon. Raises `ConfigError` where there are two."""
    targets = [one for one in what if ":" in one]
    if len(targets) > 1:
        raise ConfigError(f"{', '.join(map(escaped, targets))}: name one deployment")
    return next(iter(targets), None), tuple(one for one in what if ":" not in one)
