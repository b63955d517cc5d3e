"""The `taktora-trio` command: parsing and help. `runners/command` does the work.

A command imports its own part when it is called: a gateway that starts again needs none of the others'.

Options that a command does not know itself are settings of the deployment's connectors. They are taken out before the
rest is parsed, and judged once the deployment is loaded (`runners/configuration/meant.py`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.runners.command.half import launch_gateway, launch_plugin
from taktora_trio.runners.command.target import Target
from taktora_trio.runners.command.typed import without_settings
from taktora_trio.runners.options import (
    OWN_OPTIONS,
    EndpointOptions,
    Mode,
    Options,
    Policies,
    RunOptions,
    Shape,
    TypedSettings,
)
from taktora_trio.runners.secrets import hide_secrets
from taktora_trio.runners.this_process.outcome import call, show, show_document
from taktora_trio.runners.this_process.surroundings import settle

__all__ = ["main", "parse"]

_TARGET = re.compile(r"[\w.]+:\w+")
_LONGEST = 1000  # characters of what the parser says

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
            name=["--await-broker", "--await-peer"],
            negative="",
            help="Start even if the broker, or whatever is at the other end, can't be reached yet, and keep trying.",
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
    """Have the other side (a broker) forget a deployment that is gone for good.

    It deletes what it keeps for each connector's gateway: the session, with every message that waits in it, and what
    says whether the gateway is there. What the app itself has left there stays.

    Give what the run was given: --domain, and the connectors' settings. For a deployment of another machine, or of a
    container, give the name that its gateway was known by there.

    It refuses where the deployment runs, or seems to be connected.
    """
    from taktora_trio.operate.forgetting import forget_deployment  # with it comes what connects to a broker

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
app.command(
    "taktora_trio.operate.planning_command:plan",
    name="plan",
    help="Show the shared memory that each channel will take, what is free, and where the store is.",
)
app.command(
    "taktora_trio.operate.planning_command:explain_policy",
    name="explain-policy",
    help="Show what a restart policy comes to: its delays, when it gives up, the worst hour."
    " Refuse one that can't work.",
)
app.command(
    "taktora_trio.operate.run_command:revive",
    name="revive",
    help="Have a gateway started again that was given up, or have it connect at once instead of after its delay.",
)
app.command(
    "taktora_trio.operate.run_command:reload",
    name="reload",
    help="""Have a run read its configuration again: it replaces its gateway, and the app goes on.

    If the new gateway is not `Up` within the run's --reload-timeout, it goes back to the configuration before: exit
    code 1. A configuration that can't be read, or is wrong, touches nothing: exit code 2.
    """,
)
app.command(
    "taktora_trio.operate.control_command:stop",
    name="stop",
    help="""Stop a run in order, or one half of it, from another terminal.

    A gateway publishes what the app has sent, then ends; the app goes on, and what it sends waits. A plugin ends, and
    its gateway keeps its connection; what comes for the app waits. `start` starts a half again. For example:

    taktora-trio stop greenhouse:deployment --half gateway
    """,
)
app.command(
    "taktora_trio.operate.control_command:start",
    name="start",
    help="""Start a half again that was stopped by `stop`, or a gateway that was given up; by default whatever rests.

    For example: taktora-trio start greenhouse:deployment --half gateway
    """,
)
app.command(
    "taktora_trio.operate.control_command:restart",
    name="restart",
    help="""Restart a half, or both: the app ends first and starts last.

    A plugin that is restarted has the code that is there then, while its gateway stays connected. For example:

    taktora-trio restart greenhouse:deployment --half plugin
    """,
)
app.command(
    "taktora_trio.operate.logs_command:logs",
    name="logs",
    help="""Show the latest log lines of a run, wherever its output goes; also of one that was killed.

    Each process keeps its last few hundred lines in shared memory, and nobody is asked for them. For example:

    taktora-trio logs greenhouse:deployment --half gateway --since 10m --follow

    taktora-trio logs --event 'store-*' --event given-up --json
    """,
)
app.command(
    "taktora_trio.operate.control_command:log_level",
    name="log-level",
    help="""Have a run log more or less from now on, until it ends.

    For example: taktora-trio log-level debug greenhouse:deployment --half gateway
    """,
)
app.command(
    "taktora_trio.operate.run_command:healthcheck",
    name="healthcheck",
    help="""Say whether a run lives, or with --ready whether it works: for the probes of a container.

    Exit code 1 if a half is gone, hangs or is stopped, or with --ready if messages can't pass; 3 if there is no run.
    For example, as a liveness and as a readiness probe:

    taktora-trio healthcheck --domain greenhouse

    taktora-trio healthcheck --domain greenhouse --ready
    """,
)
app.command(
    "taktora_trio.operate.endpoint.command:serve_endpoint",
    name="endpoint",
    help="""Serve probes, metrics and, with --endpoint-page, a web page, for a run that is there already.

    `run --endpoint ADDRESS` does that by itself; this is for halves that something else supervises. It goes on when the
    run ends, and says so to whoever asks. For example:

    taktora-trio endpoint --domain greenhouse --endpoint 127.0.0.1:9464 --endpoint-page
    """,
)
app.command(
    "taktora_trio.operate.seeing.command:status",
    name="status",
    help="""Show a run as it is now: both halves, connectors, channels, the last changes of health.

    Exit code 0 if all is well; 1 if a half is gone, hangs or is stopped, or a connector is Down; 3 if there is no such
    run. It reads what the halves write into shared memory once a second, and asks them nothing. For example:

    taktora-trio status --domain greenhouse
    """,
)
app.command(
    "taktora_trio.operate.seeing.command:ps",
    name="ps",
    help="""List all runs of this user, and what killed ones have left, a line each.

    For example, the domains whose runs are not well:

    taktora-trio ps --json | jq -r '.[] | select(.is_well | not) | .domain'
    """,
)
app.command(
    "taktora_trio.operate.seeing.watching:top",
    name="top",
    help="""Show a run live: both halves, connectors, the rates of all channels, the last changes of health.

    q quits, the arrows scroll. It reads what the halves write into shared memory once a second, and asks them nothing,
    so it shows one that hangs, too. Without a terminal it prints one frame after the other.

    Say which run by MODULE:DEPLOYMENT or --domain NAME, if there are several. For example:

    taktora-trio top greenhouse:deployment
    """,
)
app.command(
    "taktora_trio.operate.seeing.watching:hz",
    name="hz",
    help="""Show how often messages come: the rate of each channel, and the times from one message to the next.

    Jitter is the standard deviation of these times. Exit code 1 if no message came at all. For example, for ten
    seconds:

    taktora-trio hz readings --for 10
    """,
)
app.command(
    "taktora_trio.operate.seeing.watching:echo",
    name="echo",
    help="""Show the messages of channels as they pass by, decoded, in both directions.

    It reads the memory that the halves use anyway, so it disturbs nobody and takes no message from anyone. What comes
    faster than it is read here is counted. For example:

    taktora-trio echo readings --count 3
    """,
)
app.command(
    "taktora_trio.operate.doctor.command:doctor",
    name="doctor",
    help="""Find out why a run does not work, or would not: look at all that it needs, and say what to do.

    Python, libraries, shared memory, limits, clock; with a deployment also its brokers (name, TCP, TLS, login, what
    they announce) and its disk. It changes nothing, and a run may go on meanwhile. Give the options that the run has.
    Exit code 1 if something fails. For example:

    taktora-trio doctor greenhouse:deployment
    """,
)
dead_letters = App(
    name="dead-letters",
    help="""Look after the messages that an app could not get done with: list, show, export, send again, discard.

    A message goes there when the app was given it `max_deliveries` times and was not done with it, for example because
    it was killed each time; or when the app gives it up. Each has a number, which `list` shows.

    These commands work while the deployment runs, and when it does not. Say which one it is by MODULE:DEPLOYMENT, by
    --domain NAME (the domain of its runs), or both. For example:

    taktora-trio dead-letters send greenhouse:deployment 7-12 15
    """,
)
app.command(dead_letters)
for _name, _help in {
    "list": "List the letters, the oldest first; all unless told which.",
    "show": "Show letters with all that is known of them, and their payload as text, or as hex where it is none.",
    "export": """Write letters as JSON, one a line, with their payload in base64; all unless told which.

    They stay where they are. For example, what the third one said:

    taktora-trio dead-letters export greenhouse:deployment 3 | jq -r .payload | base64 -d
    """,
    "send": """Give letters to the app once more, as new messages of their channel: when what was wrong is mended.

    If a gateway runs it does so at once, else the next one. A letter is removed when the app is done with it, and stays
    if the app isn't. If the gateway is killed meanwhile, the app may be given it twice.
    """,
    "discard": "Remove letters for good; `export` them first.",
}.items():
    dead_letters.command(f"taktora_trio.operate.dead_letters_command:{_name}_letters", name=_name, help=_help)
app.command(
    "taktora_trio.operate.config_command:show_config",
    name="config",
    help="""Show what a run is configured to be, and where each value came from: the default, file and line, a variable,
    or an option. Secrets are masked. It checks what a run would check before it starts anything.

    Give the options that the run has. To begin with a file of your own:

    taktora-trio config greenhouse:deployment --example > taktora.toml
    """,
)
app.command(
    "taktora_trio.declare.command:list_channels",
    name="channels",
    help="""Show the channels of a deployment: topics, message types, and how much each carries.

    For example:

    taktora-trio channels greenhouse:deployment
    """,
)
app.command(
    "taktora_trio.declare.command:write_asyncapi",
    name="asyncapi",
    help="""Describe the channels of a deployment for others, as an AsyncAPI 3 document; or say what has changed in it.

    Topics, message schemas, how messages are sent, and limits. For example, to write it, and to have a change that
    breaks others fail later on:

    taktora-trio asyncapi greenhouse:deployment --output asyncapi.yaml

    taktora-trio asyncapi greenhouse:deployment --against asyncapi.yaml

    With both options the file is written anew if nothing that has changed breaks others.
    """,
)
app.command(
    "taktora_trio.scaffold.new:new_project",
    name="new",
    help="""Write a new project: an app, its test, its configuration, a unit for systemd. It runs at once.

    For example:

    taktora-trio new boiler-room && cd boiler-room && taktora-trio run boiler_room:deployment --mode split
    """,
)
app.command(
    "taktora_trio.scaffold.shipped:show_examples",
    name="examples",
    help="""List the example apps, runner scripts and unit files that come with the package; print one, or copy all.

    For example:

    taktora-trio examples --copy . && taktora-trio run examples.echo:deployment --mode split --broker embedded --for 10
    """,
)
app.command(
    "taktora_trio.recorder.command:record",
    name="record",
    help="""Record the messages of a deployment that runs, into a file that other tools open too (MCAP, with schemas).

    It looks on: neither half does anything for it, or waits for it. What comes faster than it reads is lost to it, and
    counted. It ends with SIGINT (Ctrl-C), or with the run. Exit code 3 if there is no such run. For example:

    taktora-trio record greenhouse:deployment readings heater -o evening.mcap --for 3600

    Without MODULE:DEPLOYMENT, for which --domain NAME is enough, the file has no schemas of the app's message types.
    """,
)
app.command(
    "taktora_trio.replay.command:replay",
    name="replay",
    help="""Give an app once more what a recording says that it got, and compare what it sends with what it sent then.

    The app runs in memory, with its gateway, on a clock that jumps over pauses: an hour takes as long as the app
    computes. Exit code 1 if it sends something else, less, or more. For example:

    taktora-trio replay evening.mcap greenhouse:deployment --ignore measured_at
    """,
)
app.command(
    "taktora_trio.chaos.command:chaos", name="chaos", help="Break a split deployment in every way, and see what holds."
)


def main(*first: str, shape: Shape | None = None) -> NoReturn:
    """The command's entry point; `first` comes before what stands on the command line.

    A `shape` is what `run` is to run, for a script that composes one of its own. Bad input ends it with one clear line
    and exit code 2.
    """
    sys.exit(call(lambda: _parse_and_run(first, shape)))


def parse(arguments: Sequence[str], shape: Shape | None = None) -> Callable[[], int | None]:
    """Return the command that these arguments stand for, ready to be called. Raises `ConfigError`."""
    own, settings = without_settings(arguments)
    try:
        command, bound, unparsed = app.parse_args(own, exit_on_error=False, print_error=False)
    except CycloptsError as exc:
        unknown = ", ".join(f"--{name}" for name, _ in settings)
        perhaps = f" (taken for settings of connectors, with a value each: {unknown})" if settings else ""
        raise ConfigError(escaped(f"{exc}{perhaps}", _LONGEST)) from exc
    given = {name: value for name, value in (("settings", settings), ("shape", shape)) if name in unparsed}

    def perform() -> int | None:
        code: int | None = command(*bound.args, **bound.kwargs, **given)
        if own[:1] and own[0] in OWN_OPTIONS and not unparsed:  # the command was asked for its help
            from taktora_trio.runners.settings_help import settings_help  # only help needs it

            show(settings_help(next((argument for argument in own[1:] if _TARGET.fullmatch(argument)), None)))
        return code

    return perform


def _parse_and_run(first: Sequence[str], shape: Shape | None) -> int | None:
    settle()
    return parse([*first, *hide_secrets(first, sys.argv[1:])], shape)()
