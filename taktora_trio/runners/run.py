"""A deployment as a program: `run(deployment)` below `if __name__ == "__main__"`, where there is no command."""

from __future__ import annotations

import os
import sys

import trio

from taktora_trio.errors import ConfigError
from taktora_trio.runners.configuration.from_program import ProgramSettings, as_typed
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.finding import name_of
from taktora_trio.runners.loading import load_deployment
from taktora_trio.runners.options import Mode, Options, Policies, RunOptions, check_mode
from taktora_trio.runners.secrets import passwords_as_settings
from taktora_trio.runners.this_process.log_formats import LogFormat
from taktora_trio.runners.this_process.outcome import call
from taktora_trio.runners.this_process.surroundings import settle

__all__ = ["run"]


def run(
    deployment: Deployment | str,
    mode: Mode = "in-process",
    *,
    domain: str | None = None,
    settings: ProgramSettings | None = None,
    seconds: float | None = None,
    await_peers: bool = False,
    log: LogFormat | None = None,
    store: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
) -> None:
    """Run both halves of a deployment, and return when its app has ended, as `trio.run` does.

    It is `taktora-trio run`, with its signals, its log and its errors in one line. It also returns when SIGINT, SIGTERM
    or SIGHUP, or `seconds`, have ended the run. Where the command's exit code would not be 0, it raises `SystemExit`
    with that code, and why is on standard error. Call it in the main thread.

    With `mode="split"` this process is the supervisor. Its children import the deployment by name: it is looked for in
    the modules of this program, or given as "module:attribute" instead of the deployment.

    `domain` is the name under which both halves find each other, by default the deployment's. `settings` are those of
    the connectors, by their names at the command line, as `{"broker": URL}`, or `{"broker": {CONNECTOR: URL}}`. The run
    ends at once if the other side of a connector can't be reached, unless `await_peers`. `store` is the folder in which
    outbound messages are kept on disk, by default as the deployment says. `config` is a file of settings (TOML), by
    default the one that the environment variable TAKTORA_CONFIG names, or none. What is given here wins over the
    environment, and that over the file.
    """
    if code := call(lambda: _run(deployment, mode, domain, settings or {}, seconds, await_peers, log, store, config)):
        sys.exit(code)


def _run(
    deployment: Deployment | str,
    mode: Mode,
    domain: str | None,
    settings: ProgramSettings,
    seconds: float | None,
    await_peers: bool,
    log: LogFormat | None,
    store: str | os.PathLike[str] | None,
    config: str | os.PathLike[str] | None,
) -> int:
    from taktora_trio.runners.command.both import run_both  # what it needs is not for whoever only declares an app

    if trio.lowlevel.in_trio_run():
        raise ConfigError("there is a trio loop already: use `async with open_deployment(...) as host` in it")
    settle()
    check_mode(mode)
    if isinstance(deployment, str):
        target, deployment = deployment, load_deployment(deployment)
    else:
        target = name_of(deployment) if mode == "split" else ""
    if seconds is not None and not seconds > 0:
        raise ConfigError(f"seconds is {seconds:g}; give more than 0")
    with passwords_as_settings(take=True) as passwords:
        options = RunOptions(
            target=target,
            mode=mode,
            seconds=seconds,
            await_peers=await_peers,
            warm=False,
            policies=Policies(),
            shared=Options(
                domain=domain,
                log=log,
                store=None if store is None else os.fspath(store),
                config=None if config is None else os.fspath(config),
            ),
            settings=(*as_typed(settings), *passwords),
        )
        return run_both(options, deployment=deployment)
