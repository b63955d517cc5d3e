"""The `taktora-trio` command: parsing and help. What it does is in `launch`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import attrs
from cyclopts import App, CycloptsError, Parameter

from taktora_trio.connectors.plan import specs_of
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.operate.liveness import Half, check_alive
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.launch import (
    Mode,
    Options,
    Policies,
    RunOptions,
    Shape,
    launch,
    launch_gateway,
    launch_plugin,
)
from taktora_trio.runners.loading import load_deployment
from taktora_trio.runners.outcome import call, show
from taktora_trio.runners.revival import ask_to_revive
from taktora_trio.runners.secrets import hide_secrets
from taktora_trio.runners.surroundings import settle
from taktora_trio.supervision.explain import explain_all, to_json, to_text
from taktora_trio.supervision.policy import RestartPolicy
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.sizing import plan_memory

__all__ = ["main"]

_TOLD = 1000  # characters of what the parser says

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
    shape: Annotated[Shape | None, Parameter(parse=False)] = None,
) -> int:
    """Run both halves of a deployment until it ends, or until SIGINT, SIGTERM or SIGHUP."""
    return launch(
        RunOptions(
            target=target,
            mode=mode,
            seconds=for_,
            await_broker=await_broker,
            warm=warm,
            policies=policies,
            shared=options,
        ),
        shape,
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
    memory = plan_memory(specs_of(load_deployment(target).connectors))
    show(memory.to_json().decode() if json else memory.table())
    return 0 if memory.fits else 2


@app.command
def explain_policy(
    what: Annotated[
        str | None,
        Parameter(help="A deployment, as MODULE:DEPLOYMENT, or a policy, as intensity=5,period=60; else the defaults."),
    ] = None,
    /,
    *,
    policies: Annotated[Policies, Parameter(name="*")] = Policies(),
    json: Annotated[bool, Parameter(negative="", help="As JSON, with times in seconds.")] = False,
) -> int:
    """Show what a restart policy comes to: its delays, when it gives up, the worst hour. Refuse one that can't work."""
    explained = explain_all(_policies(what, policies))
    show(to_json(explained).decode() if json else to_text(explained))
    return 0


@app.command
def revive(
    target: Annotated[str | None, Parameter(help="The app that runs, as MODULE:DEPLOYMENT.")] = None,
    /,
    *,
    domain: Annotated[str | None, Parameter(help="The domain of the run; by default the deployment's name.")] = None,
) -> int:
    """Have a gateway started again that was given up, or have it connect at once instead of after its delay."""
    show(ask_to_revive(_domain_of_run(target, domain)))
    return 0


@app.command
def health(
    target: Annotated[str | None, Parameter(help="The app that runs, as MODULE:DEPLOYMENT.")] = None,
    /,
    *,
    domain: Annotated[str | None, Parameter(help="The domain of the run; by default the deployment's name.")] = None,
    half: Annotated[Half | None, Parameter(help="Only this half; by default all of the run.")] = None,
    max_age: Annotated[float, Parameter(help="Seconds that the last sign of life may be old.")] = 10.0,
) -> int:
    """Say whether a run lives: for the probe of a container. Exit code 1 if a half is gone, hangs, or is stopped."""
    for line in check_alive(_domain_of_run(target, domain), half, max_age):
        show(line)
    return 0


def _domain_of_run(target: str | None, domain: str | None) -> Domain:
    if domain is None:
        if target is None:
            raise ConfigError("say which run: MODULE:DEPLOYMENT, or --domain NAME")
        domain = load_deployment(target).name
    return Domain(domain)


@app.command
def forget(
    target: Target,
    /,
    *,
    even_if_up: Annotated[
        bool, Parameter(negative="", help="Also where its presence says Up, and no gateway is there to change that.")
    ] = False,
    options: Shared = Options(),
) -> int:
    """Have the broker forget a deployment that is gone for good.

    For each of its MQTT connectors the broker deletes the session, with every message that waits in it, and the
    retained message of its presence (taktora/CLIENT-ID/health). Other retained messages stay: they are the app's.

    Give what the run was given: --broker, --domain, --client-id. A client id that is not given and not declared is made
    of this machine's name. For a deployment of another machine, or of a container, give the id that is in the topic of
    its presence; mosquitto_sub -t taktora/+/health -v shows those that are left.

    It refuses where the deployment runs, or its presence says Up.
    """
    from taktora_trio.operate.forgetting import forget_deployment  # with it comes what connects to a broker

    return forget_deployment(target, options, even_if_up)


# By its name: nothing of it is imported before its turn.
app.command(
    "taktora_trio.chaos.command:chaos", name="chaos", help="Break a split deployment in every way, and see what holds."
)


def _policies(what: str | None, changes: Policies) -> dict[str, RestartPolicy]:
    """The policies that `explain-policy` was asked for, by the half that they are for."""
    gateway, plugin = changes.gateway_policy, changes.plugin_policy
    if what is not None and "=" in what:
        if gateway or plugin:
            raise ConfigError(f"{what!r} is a policy: give MODULE:DEPLOYMENT with --gateway-policy or --plugin-policy")
        return {"": RestartPolicy().changed(what)}
    if what is not None:
        deployment = load_deployment(what).with_policies(gateway, plugin)
        return {"gateway": deployment.gateway_policy, "plugin": deployment.plugin_policy}
    defaults = {half: getattr(attrs.fields(Deployment), f"{half}_policy").default for half in ("gateway", "plugin")}
    return {
        "gateway": defaults["gateway"].changed(gateway) if gateway else defaults["gateway"],
        "plugin": defaults["plugin"].changed(plugin) if plugin else defaults["plugin"],
    }


def main(*first: str, shape: Shape | None = None) -> NoReturn:
    """The command's entry point; `first` comes before what stands on the command line.

    A `shape` is what `run` is to run, for a script that composes one of its own. Bad input ends it with one clear line
    and exit code 2.
    """
    sys.exit(call(lambda: _parse_and_run(first, shape)))


def _parse_and_run(first: Sequence[str], shape: Shape | None) -> int | None:
    settle()
    arguments = [*first, *hide_secrets(first, sys.argv[1:])]
    try:
        command, bound, not_parsed = app.parse_args(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as exc:
        raise ConfigError(escaped(str(exc), _TOLD)) from exc
    code: int | None = command(*bound.args, **bound.kwargs, **({"shape": shape} if "shape" in not_parsed else {}))
    return code
