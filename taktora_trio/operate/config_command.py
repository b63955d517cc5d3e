"""The command `taktora-trio config`: imported when it is asked for. Its help is in `cli`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from taktora_trio.errors import ConfigError
from taktora_trio.operate.configured import as_json, as_text, shown
from taktora_trio.operate.example_file import example_file
from taktora_trio.runners.command.target import Target
from taktora_trio.runners.configuration.reading import Sources, read_configuration
from taktora_trio.runners.loading import load_deployment
from taktora_trio.runners.options import EndpointOptions, Mode, Options, Policies, TypedSettings, typed_run
from taktora_trio.runners.this_process.outcome import printing_aside, show, show_document
from taktora_trio.transport.domain import Domain

__all__ = ["show_config"]


def show_config(
    target: Target,
    /,
    *,
    json: Annotated[bool, Parameter(negative="", help="As JSON: a list of key, value and origin.")] = False,
    example: Annotated[
        bool, Parameter(negative="", help="A file with every key, commented out, with what it is for.")
    ] = False,
    await_peers: Annotated[
        bool, Parameter(name=["--await-peer", "--await-broker"], negative="", help="As `run` has it.")
    ] = False,
    warm: Annotated[bool, Parameter(negative="", help="As `run` has it.")] = False,
    reload_timeout: Annotated[float | None, Parameter(help="As `run` has it.")] = None,
    mode: Annotated[Mode | None, Parameter(help="As `run` has it; it changes nothing here.")] = None,
    for_: Annotated[float | None, Parameter(name="--for", help="As `run` has it; it changes nothing here.")] = None,
    policies: Annotated[Policies, Parameter(name="*")] = Policies(),
    endpoint: Annotated[EndpointOptions, Parameter(name="*", negative="")] = EndpointOptions(),
    options: Annotated[Options, Parameter(name="*")] = Options(),
    settings: Annotated[TypedSettings, Parameter(parse=False)],
) -> int:
    """Show the configuration."""
    if json and example:
        raise ConfigError("--example is a file in TOML: leave out --json")
    typed = typed_run(options, policies, await_peers, warm, settings, reload_timeout, endpoint)
    with printing_aside():
        deployment = load_deployment(target)
        file = example_file(deployment) if example else None
    if file is not None:
        show_document(f"{file}\n".encode())
        return 0
    sources = Sources(typed=typed, config=options.config, default=True)
    with printing_aside():  # the class of the app's settings may be given by name
        configuration = read_configuration(deployment, sources, "in-process")
    Domain(configuration.domain)
    configuration.configured.check_files()
    lines = list(shown(configuration))
    if json:
        show_document(f"{as_json(lines)}\n".encode())
    else:
        show(as_text(lines))
    return 0
