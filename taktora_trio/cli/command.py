"""The command itself: what runs a deployment, and all other commands by their names."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App, Parameter

from taktora_trio.cli import controlling, describing, developing, monitoring
from taktora_trio.cli.dead_letters import dead_letters
from taktora_trio.runners.command.half import launch_gateway, launch_plugin
from taktora_trio.runners.command.target import Target
from taktora_trio.runners.options import EndpointOptions, Mode, Options, Policies, RunOptions, Shape, TypedSettings
from taktora_trio.runners.this_process.outcome import show_document

__all__ = ["app"]

app = App(
    name="taktora-trio",
    help="Run an app and its gateway, in one process or in two, with shared memory between them.",
    version_flags=["--version"],
)

Shared = Annotated[Options, Parameter(name="*")]
Settings = Annotated[TypedSettings, Parameter(parse=False)]


@app.command
def run(
    target: Target,
    /,
    *,
    mode: Annotated[Mode, Parameter(help="One process, or a supervisor with a plugin and a gateway process.")],
    for_: Annotated[float | None, Parameter(name="--for", help="Stop after so many seconds.")] = None,
    await_peers: Annotated[
        bool,
        Parameter(
            name=["--await-peer", "--await-broker"],
            negative="",
            help="Start even if the other side (a broker, a router) can't be reached yet, and keep trying.",
        ),
    ] = False,
    warm: Annotated[
        bool,
        Parameter(negative="", help="Split: start the gateway by forking a process that has everything imported."),
    ] = False,
    reload_timeout: Annotated[
        float | None,
        Parameter(help="Seconds for a gateway to be Up that a reload has started, before it goes back; 20 by default."),
    ] = None,
    policies: Annotated[Policies, Parameter(name="*")] = Policies(),
    endpoint: Annotated[EndpointOptions, Parameter(name="*", negative="")] = EndpointOptions(),
    options: Shared = Options(),
    settings: Settings,
    shape: Annotated[Shape | None, Parameter(parse=False)] = None,
) -> int:
    """Run both halves of a deployment until it ends, or until SIGINT, SIGTERM or SIGHUP."""
    from taktora_trio.runners.command.launch import launch

    return launch(
        RunOptions(
            target=target,
            mode=mode,
            seconds=for_,
            await_peers=await_peers,
            warm=warm,
            policies=policies,
            shared=options,
            settings=settings,
            reload_timeout=reload_timeout,
            endpoint=endpoint,
        ),
        shape,
    )


@app.command
def plugin(target: Target, /, *, options: Shared = Options(), settings: Settings) -> int:
    """Run only the app's half, for a supervisor such as systemd. It waits for its gateway, or carries on with it."""
    return launch_plugin(target, options, settings)


@app.command
def gateway(
    target: Target,
    /,
    *,
    connector: Annotated[
        tuple[str, ...],
        Parameter(negative="", help="Only this connector, or these. Others may have a gateway of their own."),
    ] = (),
    outlast: Annotated[
        float,
        Parameter(help="When told to stop, go on until the plugin has ended, for so many seconds at most."),
    ] = 0.0,
    options: Shared = Options(),
    settings: Settings,
) -> int:
    """Run only the protocol's half, for a supervisor such as systemd. It waits for its plugin, or joins it."""
    return launch_gateway(target, options, settings, connector, outlast)


@app.command
def forget(
    target: Target,
    /,
    *,
    even_if_up: Annotated[
        bool, Parameter(negative="", help="Also where its presence says Up, and no gateway is there to change that.")
    ] = False,
    options: Shared = Options(),
    settings: Settings,
) -> int:
    """Have the other side (such as a broker) forget a deployment that is gone for good.

    It deletes what it keeps for each connector's gateway: the session, with every message that waits in it, and what
    says whether the gateway is there. What the app itself has left there stays.

    Give what the run was given: --domain, and the connectors' settings. For a deployment of another machine, or of a
    container, give the name that its gateway was known by there.

    It refuses where the deployment runs, or seems to be connected.
    """
    from taktora_trio.operate.forgetting import forget_deployment  # with it comes what connects to the other side

    return forget_deployment(target, options, settings, even_if_up)


@app.command
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="The shell that is to have it.")], /
) -> int:
    """Print what makes a shell complete commands and options.

    For example, for all shells of one user:

    bash: taktora-trio completion bash > ~/.local/share/bash-completion/completions/taktora-trio

    zsh: taktora-trio completion zsh > ~/.zfunc/_taktora-trio, with ~/.zfunc in fpath

    fish: taktora-trio completion fish > ~/.config/fish/completions/taktora-trio.fish

    The settings of a deployment's connectors are not completed, as only the deployment knows them.
    """
    show_document(f"{app.generate_completion(shell=shell)}\n".encode())
    return 0


# By their names: nothing of them is imported before its turn.
for _commands in (describing.COMMANDS, controlling.COMMANDS, monitoring.COMMANDS, developing.COMMANDS):
    for _name, (_function, _help) in _commands.items():
        app.command(_function, name=_name, help=_help)
app.command(dead_letters)
