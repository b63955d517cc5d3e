"""The `taktora-trio` command: parsing and help. What it does is in `launch`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

from cyclopts import App, CycloptsError, Parameter

from taktora_trio.deployment import load_deployment
from taktora_trio.launch import (
    Mode,
    Options,
    Policies,
    RunOptions,
    call,
    complain,
    launch,
    launch_gateway,
    launch_plugin,
)
from taktora_trio.passwords import hide_password_in_arguments
from taktora_trio.transport.sizing import plan_memory

__all__ = ["main"]

app = App(
    name="taktora-trio",
    help="Run an app and its MQTT gateway, in one process or in two, with shared memory between them.",
    version_flags=["--version"],
)

Target = Annotated[str, Parameter(help="The app, as MODULE:DEPLOYMENT, for example examples.echo:deployment.")]
Shared = Annotated[Options, Parameter(name="*")]


@app.command
def run(
    target: Target,
    /,
    *,
    mode: Annotated[Mode, Parameter(help="One process, or a supervisor with a plugin and a gateway process.")],
    for_: Annotated[float | None, Parameter(name="--for", help="Stop after so many seconds.")] = None,
    await_broker: Annotated[
        bool, Parameter(negative="", help="Start even if the broker can't be reached yet, and keep trying.")
    ] = False,
    warm: Annotated[
        bool,
        Parameter(negative="", help="Split: start the gateway by forking a process that has everything imported."),
    ] = False,
    policies: Annotated[Policies, Parameter(name="*")] = Policies(),
    options: Shared = Options(),
) -> int:
    """Run both halves of a deployment until it ends, or until SIGINT or SIGTERM."""
    return launch(
        RunOptions(
            target=target,
            mode=mode,
            seconds=for_,
            await_broker=await_broker,
            warm=warm,
            policies=policies,
            shared=options,
        )
    )


@app.command
def plugin(target: Target, /, *, options: Shared = Options()) -> int:
    """Run only the app's half, for a supervisor such as systemd. It waits for its gateway, or carries on with it."""
    return launch_plugin(target, options)


@app.command
def gateway(target: Target, /, *, options: Shared = Options()) -> int:
    """Run only the protocol's half, for a supervisor such as systemd. It waits for its plugin, or joins it."""
    return launch_gateway(target, options)


@app.command
def plan(
    target: Target, /, *, json: Annotated[bool, Parameter(negative="", help="As JSON, with sizes in bytes.")] = False
) -> int:
    """Show the shared memory that each channel will take, and what is free."""
    memory = plan_memory(load_deployment(target).connectors)
    print(memory.to_json().decode() if json else memory.table())  # noqa: T201 - its result
    return 0 if memory.fits else 2


# By its name: nothing of it is imported before its turn.
app.command(
    "taktora_trio.chaos.command:chaos", name="chaos", help="Break a split deployment in every way, and see what holds."
)


def main(*first: str) -> NoReturn:
    """The command's entry point; `first` comes before what stands on the command line.

    Bad input ends it with one clear line and exit code 2.
    """
    hide_password_in_arguments(sys.argv[1:])
    sys.exit(call(lambda: _parse_and_run([*first, *sys.argv[1:]])))


def _parse_and_run(arguments: Sequence[str]) -> int | None:
    try:
        code: int | None = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as exc:
        return complain([exc], 2)
    return code
